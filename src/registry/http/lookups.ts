/**
 * Lookups of host names, with a limit for each registry. A registry may redirect to names whose name servers never
 * answer; such a lookup cannot be stopped, and holds a thread until the system gives up. The limit counts lookups whose
 * callers have given up, too, so that other registries neither wait for them nor run out of threads.
 */
import type { LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { resolve } from '../../native/resolve.ts';

/** Maximum lookups in flight for one registry and the hosts that it redirects to, and in total. */
export const MAX_REGISTRY_LOOKUPS = 2;
export const MAX_LOOKUPS = 64;

/** Milliseconds until a request gives up its lookup. The system tries a second name server after 5 s. */
const LOOKUP_TIMEOUT = 7_000;

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
  /** Resolves a name. Default: the system's resolver. */
  readonly resolve?: (name: string) => Promise<LookupAddress[]>;
  /** Milliseconds; default {@link LOOKUP_TIMEOUT}. */
  readonly timeout?: number;
}

export class Lookups {
  readonly #resolve: (name: string) => Promise<LookupAddress[]>;
  readonly #timeout: number;
  /** Lookups in flight by name; registries share the lookup of one name. */
  readonly #running = new Map<string, Promise<LookupAddress[]>>();
  readonly #held = new Map<string, number>();
  /** Requests in their order of arrival. */
  readonly #waiting = new Set<Request>();

  constructor(options: LookupsOptions = {}) {
    this.#resolve = options.resolve ?? resolve;
    this.#timeout = options.timeout ?? LOOKUP_TIMEOUT;
  }

  /**
   * The addresses of a host, on behalf of `registry` (`HOST[:PORT]`). Rejects with {@link LookupTimeout}, or as Node.
   */
  find(registry: string, name: string): Promise<LookupAddress[]> {
    return new Promise((fulfil, reject) => {
      const late = (): void => {
        this.#waiting.delete(request);
        reject(new LookupTimeout(`no name server answered for ${name} in time`));
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

  /** The lookup function for sockets of `registry`. */
  for(registry: string): LookupFunction {
    return (name, { all, family }, callback) => {
      this.find(registry, name).then(
        (addresses) => completeLookup(name, ofFamily(addresses, family), all === true, callback),
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

  /** Starts a lookup; null while its registry, or all registries together, are at their limit. */
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

/** Lookups of this process. */
export const lookups = new Lookups();

type Callback = Parameters<LookupFunction>[2];

const ofFamily = (addresses: readonly LookupAddress[], family: unknown): LookupAddress[] =>
  addresses.filter((one) => (family !== 4 && family !== 6) || one.family === family);

function completeLookup(name: string, addresses: LookupAddress[], isAll: boolean, callback: Callback): void {
  const [first] = addresses;
  if (first === undefined) {
    callback(Object.assign(new Error(`no address of ${name}`), { code: 'ENOTFOUND' }), []);
  } else if (isAll) callback(null, addresses);
  else callback(null, first.address, first.family);
}
