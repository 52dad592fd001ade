/** `cat`: the content of files of an image, streamed and verified. */
import { LacunaError } from '../errors.ts';
import type { OpenImageOptions } from '../reader/image.ts';
import { openImage } from '../reader/open.ts';
import type { ImageInput } from '../registry/source.ts';
import { fromText } from '../tree/node.ts';
import { resolvePath } from '../tree/resolve.ts';
import { noSuchPath } from './ls.ts';

/**
 * The content of `paths` one after another; symlinks are followed inside the image. All paths are checked before the
 * first byte: NOT_FOUND, or USAGE for what has no content.
 */
export async function* cat(
  input: ImageInput,
  paths: readonly string[],
  options: OpenImageOptions = {},
): AsyncGenerator<Buffer> {
  await using image = await openImage(input, options);
  const nodes = paths.map((path) => {
    const found = resolvePath(image.root, fromText(path), true, image.subject);
    if (found === null) throw noSuchPath(path, image.subject);
    if (found.node.type !== 'reg') {
      throw new LacunaError('USAGE', `${JSON.stringify(path)} is a ${found.node.type}, it has no content`, {
        op: 'read',
        subject: image.subject,
      });
    }
    return found.node;
  });
  for (const node of nodes) yield* image.read(node, options.signal === undefined ? {} : { signal: options.signal });
}
