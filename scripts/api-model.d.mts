export interface ApiMember {
  readonly name: string;
  /** The text of the documentation comment, or null. */
  readonly doc: string | null;
  /** The declaration as tsc emits it. */
  readonly text: string;
}
export interface ApiSymbol extends ApiMember {
  readonly kind: 'class' | 'constant' | 'function' | 'interface' | 'type';
  readonly members: readonly ApiMember[];
}
export declare function apiOf(entry: string): ApiSymbol[];
export declare function undocumented(api: readonly ApiSymbol[]): string[];
