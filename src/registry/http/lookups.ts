/**
 * Lookups of host names, shared out. A registry may redirect to names whose name servers never answer; a lookup of such a
 * one cannot be stopped, and holds a thread until the system gives it up. So a registry has few under way, those that
 * nobody waits for any more included, and others neither wait for them nor run out of threads.
 */
import type { LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { resolve } from '../../native/resolve.ts';

/** Lookups under way for one registry and wherever it redirects to, and in all. */
export const MAX_REGISTRY_LOOKUPS = 2;
export const MAX_LOOKUPS = 64;

/** Milliseconds until a request gives its lookup up. The system waits up to 10 s for a server that answers half of it. */
const LOOKUP_TIMEOUT = 15_000;

/** No name server answered in time. */
class LookupTimeout extends Error {
  readonly code = 'LOOKUP_TIMEOUT';
}

interface Request {
  readonly registry: string;
  readonly name: string;
  readonly take: (result: Promise<LookupAddress[]>) => void;
}

export interface LookupsOptions {
  /** Default: as the system does. */
  readonly resolve?: (name: string) => Promise<LookupAddress[]>;
  /** Milliseconds; default {@link LOOKUP_TIMEOUT}. */
  readonly timeout?: number;
}

export class Lookups {
  readonly #resolve: (name: string) => Promise<LookupAddress[]>;
  readonly #timeout: number;
  /** By name: whoever asks for it, it is looked up once. */
  readonly #running = new Map<string, Promise<LookupAddress[]>>();
  readonly #held = new Map<string, number>();
  /** In the order of their coming. */
  readonly #waiting = new Set<Request>();

  constructor(options: LookupsOptions = {}) {
    this.#resolve = options.resolve ?? resolve;
    this.#timeout = options.timeout ?? LOOKUP_TIMEOUT;
  }

  /** The addresses of a host that `registry` (`HOST[:PORT]`) is, or led to. Rejects with {@link LookupTimeout}, or as Node does. */
  find(registry: string, name: string): Promise<LookupAddress[]> {
    return new Promise((fulfil, reject) => {
      const late = (): void => {
        this.#waiting.delete(request);
        reject(new LookupTimeout(`${name} was not found in time`));
      };
      const timer = setTimeout(late, this.#timeout);
      const take = (result: Promise<LookupAddress[]>): void => {
        void result.then(fulfil, reject).finally(() => clearTimeout(timer));
      };
      const request = { registry, name, take };
      this.#waiting.add(request);
      this.#pump();
    });
  }

  /** For sockets: what connections of `registry` look names up with. */
  for(registry: string): LookupFunction {
    return (name, { all, family }, callback) => {
      this.find(registry, name).then(
        (found) => answer(name, ofFamily(found, family), all === true, callback),
        (error: NodeJS.ErrnoException) => callback(error, []),
      );
    };
  }

  #pump(): void {
    for (const request of this.#waiting) {
      const result = this.#running.get(request.name) ?? this.#begin(request);
      if (result === null) continue;
      this.#waiting.delete(request);
      request.take(result);
    }
  }

  /** Null while its registry, or all together, have enough under way. */
  #begin({ registry, name }: Request): Promise<LookupAddress[]> | null {
    const held = this.#held.get(registry) ?? 0;
    if (held >= MAX_REGISTRY_LOOKUPS || this.#running.size >= MAX_LOOKUPS) return null;
    this.#held.set(registry, held + 1);
    const result = this.#resolve(name);
    this.#running.set(name, result);
    const end = (): void => this.#end(registry, name);
    result.then(end, end);
    return result;
  }

  #end(registry: string, name: string): void {
    this.#running.delete(name);
    const left = this.#held.get(registry)! - 1;
    if (left > 0) this.#held.set(registry, left);
    else this.#held.delete(registry);
    this.#pump();
  }
}

/** This process's. */
export const lookups = new Lookups();

type Callback = Parameters<LookupFunction>[2];

const ofFamily = (found: readonly LookupAddress[], family: unknown): LookupAddress[] =>
  found.filter((one) => (family !== 4 && family !== 6) || one.family === family);

function answer(name: string, found: LookupAddress[], isAll: boolean, callback: Callback): void {
  const [first] = found;
  if (first === undefined) {
    callback(Object.assign(new Error(`no address of ${name}`), { code: 'ENOTFOUND' }), []);
  } else if (isAll) callback(null, found);
  else callback(null, first.address, first.family);
}
