/**
 * The one table of configuration keys: name, type, default, meaning. Types, validation, the sample file and the
 * reference in the docs all come from it. Sizes are bytes, durations milliseconds once parsed.
 */

interface Key<T> {
  readonly type: 'size' | 'duration' | 'count' | 'boolean' | 'text' | 'texts';
  readonly default: T;
  readonly doc: string;
}

const size = (value: number, doc: string): Key<number> => ({ type: 'size', default: value, doc });
const duration = (value: number, doc: string): Key<number> => ({ type: 'duration', default: value, doc });
const count = (value: number, doc: string): Key<number> => ({ type: 'count', default: value, doc });
const text = (value: string, doc: string): Key<string> => ({ type: 'text', default: value, doc });
const texts = (value: readonly string[], doc: string): Key<readonly string[]> => ({
  type: 'texts',
  default: value,
  doc,
});

const KIB = 1024;

export const CONFIG_TABLE = {
  log: {
    level: text('info', 'What is logged: debug, info, warn, error or silent.'),
  },
  fetch: {
    window: size(
      1536 * KIB,
      'Chunks of this aligned part of a blob follow the ones that a reader waits for. 0 = none.',
    ),
    in_flight: size(
      1024 * KIB,
      'At most so many compressed bytes that nobody waits for are asked for at once, and behind any wanted chunk.',
    ),
    connections: count(16, 'At most so many requests at once that a reader waits for.'),
    deadline: duration(30_000, 'A read whose data cannot be had for so long fails with an I/O error.'),
  },
  daemon: {
    threads: count(2, 'Threads that answer file system requests.'),
    workers: count(2, 'Threads that decode and verify fetched chunks.'),
  },
  registry: {
    plain_http: texts([], 'Hosts (`host` or `host:port`) reached without TLS. Loopback addresses always are.'),
    ca: text('', 'File with PEM certificates to trust besides the system ones.'),
  },
} as const;

type ValueOf<K> = K extends Key<infer T> ? T : never;

/** All settings, with every key present. */
export type Config = {
  readonly [S in keyof typeof CONFIG_TABLE]: {
    readonly [K in keyof (typeof CONFIG_TABLE)[S]]: ValueOf<(typeof CONFIG_TABLE)[S][K]>;
  };
};

/** The table without its literal types, for code that walks it. */
export const SECTIONS: Readonly<Record<string, Readonly<Record<string, Key<unknown>>>>> = CONFIG_TABLE;
