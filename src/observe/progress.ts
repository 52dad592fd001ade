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
  /** Step under way. */
  readonly phase: Phase;
  /** The object of the work: a short digest, a file name. */
  readonly subject: string;
  /** Of which platform, where several are worked on: `linux/arm64`. */
  readonly platform?: string;
  /** How much is done, in `unit`. */
  readonly done: number;
  /** Null when unknown. */
  readonly total: number | null;
  /** What `done` and `total` count. */
  readonly unit: 'bytes' | 'items';
}

/** Called with each event; it must not throw. */
export type OnProgress = (event: Progress) => void;
