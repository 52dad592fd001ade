/** Progress events of long work. */

/** Kinds of work; others may be added. */
export type Phase =
  | 'check'
  | 'convert'
  | 'download'
  | 'export'
  | 'hash'
  | 'push'
  | 'read'
  | 'unpack'
  | (string & Record<never, never>);

/** How far one piece of work is. Counts are absolute, so that a lost event does no harm. */
export interface Progress {
  readonly phase: Phase;
  /** The object of the work: a short digest, a file name. */
  readonly subject: string;
  /** Of which platform, where several are worked on: `linux/arm64`. */
  readonly platform?: string;
  readonly done: number;
  /** Null when unknown. */
  readonly total: number | null;
  readonly unit: 'bytes' | 'items';
}

export type OnProgress = (event: Progress) => void;
