/**
 * The one table of configuration keys: name, type, default, meaning. Types, validation, the sample file and the
 * reference in the docs all come from it. Sizes are bytes, durations milliseconds once parsed.
 */

import { LOG_LEVELS, type LogLevel } from '../observe/log.ts';

/** One key of the configuration file. */
export interface Key<T> {
  /** How the value is written and parsed. */
  readonly type: 'size' | 'duration' | 'count' | 'boolean' | 'text' | 'texts' | 'choice';
  /** The value when the file does not set the key: bytes of a size, milliseconds of a duration. */
  readonly default: T;
  /** The meaning of the key, as docs/config.md prints it. */
  readonly doc: string;
  /** Bounds of a size, duration or count: an absurd value is a mistake. */
  readonly least?: number;
  /** Largest value of a size, duration or count. */
  readonly most?: number;
  /** Of a choice. */
  readonly choices?: readonly T[];
}

type Range = readonly [least: number, most: number];

const size = (value: number, [least, most]: Range, doc: string): Key<number> => ({
  ...{ type: 'size', default: value, least, most, doc },
});
const duration = (value: number, [least, most]: Range, doc: string): Key<number> => ({
  ...{ type: 'duration', default: value, least, most, doc },
});
const count = (value: number, [least, most]: Range, doc: string): Key<number> => ({
  ...{ type: 'count', default: value, least, most, doc },
});
const choice = <T extends string>(value: T, choices: readonly T[], doc: string): Key<T> => ({
  ...{ type: 'choice', default: value, choices, doc },
});
const text = (value: string, doc: string): Key<string> => ({ type: 'text', default: value, doc });
const texts = (value: readonly string[], doc: string): Key<readonly string[]> => ({
  type: 'texts',
  default: value,
  doc,
});

const KIB = 1024;
const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
const DAY = 86_400_000;

/** Every key of the configuration file by section, with its type, default and meaning. */
export const CONFIG_TABLE = {
  log: {
    level: choice<LogLevel>('info', LOG_LEVELS, 'Minimum level of log lines: debug, info, warn, error or silent.'),
  },
  fetch: {
    window: size(
      1536 * KIB,
      [0, GIB],
      'Read-ahead window: the rest of this aligned part of a blob is fetched after a demanded chunk. 0 = no read-ahead.',
    ),
    in_flight: size(
      1024 * KIB,
      [0, GIB],
      'Maximum compressed bytes of read-ahead in flight, for each image and registry, and after one demanded chunk.',
    ),
    connections: count(16, [1, 1024], 'Maximum concurrent requests of one image to one repository.'),
    origin_connections: count(
      64,
      [2, 4096],
      'Maximum concurrent requests to one registry. One image uses at most as many as it leaves free.',
    ),
    total_connections: count(
      512,
      [2, 4096],
      'Maximum concurrent requests in all. One image uses at most as many as it leaves free.',
    ),
    memory: size(
      256 * MIB,
      [128 * MIB, 64 * GIB],
      'Maximum bytes fetched and not yet in the cache. One image uses at most as many as it leaves free; the first request of an image that has none may exceed it, up to twice as much in all.',
    ),
    silence: duration(
      1000,
      [50, DAY],
      'Time without data after which the next source is asked as well, and the silent one last for a while.',
    ),
    deadline: duration(30_000, [1, DAY], 'Time after which a read whose data has not arrived fails with EIO.'),
  },
  daemon: {
    threads: count(2, [1, 256], 'Threads that answer file system requests.'),
    workers: count(2, [1, 256], 'Threads that decode and verify fetched chunks.'),
  },
  snapshotter: {
    containerd: text(
      '',
      'Socket of the containerd that is asked whether it pulled an image. Empty: the socket of the calling process.',
    ),
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
