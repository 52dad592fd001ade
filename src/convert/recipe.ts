/** The options and version of a conversion as one line: equal sources and recipes give equal bytes. */
import { createHash } from 'node:crypto';
import type { ConvertPlan } from './options.ts';

/**
 * Goes up with every change of the bytes that a layer or an image becomes (test/unit/convert/pinned.ts notices): what
 * another version made is made anew.
 */
const VERSION = 1;

export interface Recipe {
  /** Of a layer's blob; null where that depends on other layers, too. */
  readonly layer: string | null;
  /** Of a lazy manifest. */
  readonly image: string;
}

/** `dicts`: the dictionaries' names. Their content does not matter: a converted image does not need them any more. */
export function recipeOf(plan: ConvertPlan, dicts: readonly string[]): Recipe {
  const { chunkSize, compressor, level, digester, batchSize, form } = plan.layer;
  const how = plan.ociRef ? 'ref' : `${compressor}:${compressor === 3 ? level : 0}`;
  const layer = `${VERSION} ${how} digest=${digester} chunk=${chunkSize} batch=${batchSize} ${form}`;
  const rest = `align=${plan.align} dedup=${plan.dedup} as=${plan.as}`;
  const lists = `prefetch=${hashOf(plan.prefetch)} dicts=${hashOf(dicts)}`;
  return { layer: plan.dedup === 'image' ? null : layer, image: `${layer} ${rest} ${lists}` };
}

const hashOf = (list: readonly string[]): string =>
  list.length === 0 ? '-' : createHash('sha256').update(JSON.stringify(list)).digest('hex').slice(0, 32);
