/** Compares the configs, annotations and layers of two images, which a comparison of trees does not cover. */

import type { OpenImageOptions } from '../reader/image.ts';
import type { ImageInput } from '../registry/source.ts';
import { inspectManifest, type ManifestAndConfig } from './manifest.ts';

/** One difference between two image configurations. */
export interface ConfigChange {
  /** Where: `config`, `annotations` or `layers`, then the names of fields. A list is one value. */
  readonly path: readonly string[];
  /** Null when absent. */
  readonly from: unknown;
  /** The value in the second image; null where there is none. */
  readonly to: unknown;
}

/** Configs field by field, annotations by name, layers by media type and digest. Bare files have none of these. */
export async function diffConfig(
  a: ImageInput,
  b: ImageInput,
  options: OpenImageOptions = {},
): Promise<ConfigChange[]> {
  const [from, to] = await Promise.all([inspectManifest(a, options), inspectManifest(b, options)]);
  return compare([], comparable(from), comparable(to));
}

function comparable(found: Pick<ManifestAndConfig, 'manifest' | 'config'> | null) {
  const layers = found?.manifest.layers.map(({ mediaType, digest }) => ({ mediaType, digest }));
  return { config: found?.config, annotations: found?.manifest.annotations, layers };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Recursive: JSON from a registry is bounded in depth where it is parsed. */
function compare(path: readonly string[], from: unknown, to: unknown): ConfigChange[] {
  if (isObject(from) && isObject(to)) {
    const names = [...new Set([...Object.keys(from), ...Object.keys(to)])].sort();
    return names.flatMap((name) => compare([...path, name], own(from, name), own(to, name)));
  }
  return canonical(from) === canonical(to) ? [] : [{ path, from: from ?? null, to: to ?? null }];
}

const own = (object: Record<string, unknown>, name: string): unknown =>
  Object.hasOwn(object, name) ? object[name] : undefined;

/** Objects in lists are equal whatever the order of their fields; null is as good as absent. */
const canonical = (value: unknown): string =>
  JSON.stringify(value ?? null, (_, inner: unknown) =>
    isObject(inner) ? Object.fromEntries(Object.entries(inner).sort(([x], [y]) => (x < y ? -1 : 1))) : inner,
  );
