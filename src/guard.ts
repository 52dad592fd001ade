/**
 * Wraps each public function: the function is loaded when it is first called, so that importing the
 * package costs nothing, and a key of its options that it does not know is an error instead of being passed over.
 */
import { LacunaError } from './errors.ts';
import { nearest } from './suggest.ts';

/** The keys of some options; those that hold options themselves with theirs. */
interface OptionKeys {
  readonly [key: string]: true | OptionKeys;
}

/** Every key of `T` and no other: an option that is added without its key, or gone, does not compile. */
export type KeysOf<T> = { readonly [K in keyof Required<T>]: true | OptionKeys };

/** The name of a function and the keys of its options; null where it has none. */
export interface Guard {
  readonly op: string;
  readonly keys: OptionKeys | null;
  /** Place of the options among its parameters, from 0. */
  readonly at: number;
}

// biome-ignore lint/suspicious/noExplicitAny: of any parameters, which are handed on as they came.
type Call<R> = (...args: any[]) => R;

/** A function that gives a promise. */
export function guarded<F extends Call<Promise<unknown>>>(guard: Guard, load: () => Promise<F>): F {
  const call = async (...args: unknown[]): Promise<unknown> => {
    check(guard, args);
    return await (await load())(...args);
  };
  return call as F;
}

/** A function that gives one result after another. */
export function guardedList<F extends Call<AsyncGenerator<unknown>>>(guard: Guard, load: () => Promise<F>): F {
  async function* call(...args: unknown[]): AsyncGenerator<unknown> {
    check(guard, args);
    yield* (await load())(...args);
  }
  return call as F;
}

function check({ op, keys, at }: Guard, args: readonly unknown[]): void {
  if (keys !== null) refuseUnknown(op, args[at], keys, '');
}

function refuseUnknown(op: string, options: unknown, keys: OptionKeys, prefix: string): void {
  if (options === undefined) return;
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new LacunaError('USAGE', `${prefix === '' ? 'options' : prefix.slice(0, -1)} must be an object`, { op });
  }
  for (const [name, value] of Object.entries(options)) {
    const nested = Object.hasOwn(keys, name) ? keys[name]! : null;
    if (nested === null) throw unknownKey(op, `${prefix}${name}`, paths(keys, prefix));
    if (nested !== true) refuseUnknown(op, value, nested, `${prefix}${name}.`);
  }
}

function unknownKey(op: string, name: string, known: readonly string[]): LacunaError {
  const last = name.slice(name.lastIndexOf('.') + 1);
  // The right name at the wrong level is more likely than a slip.
  const elsewhere = known.filter((path) => path !== name && path.endsWith(`.${last}`));
  const near = elsewhere.length > 0 ? elsewhere.join(' or ') : nearest(name, known);
  const hint =
    near === null ? `it has: ${known.filter((path) => !path.includes('.')).join(', ')}` : `did you mean ${near}?`;
  return new LacunaError('USAGE', `${name} is not an option of ${op}`, { op, hint });
}

/** The keys with those of options within options, as `source.ca`. */
function paths(keys: OptionKeys, prefix: string): string[] {
  return Object.entries(keys).flatMap(([name, inner]) => [
    `${prefix}${name}`,
    ...(inner === true ? [] : paths(inner, `${prefix}${name}.`)),
  ]);
}
