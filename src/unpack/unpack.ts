/** `unpack IMAGE TARGET`: the content of a lazy or an ordinary image → a directory, a tar, or an ordinary image again. */
import { randomUUID } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import { callback, LacunaError, toLacunaError } from '../errors.ts';
import { STREAM } from '../image/reference.ts';
import type { OpenedImage } from '../reader/image.ts';
import { openImage, openStored } from '../reader/open.ts';
import { writeToStdout } from '../registry/local/archive-writer.ts';
import { writeWhole } from '../registry/local/file-target.ts';
import { type ImageInput, inputName, type OpenedSource, openSource, referenceOf } from '../registry/source.ts';
import { unpackDirectory } from './directory.ts';
import { copyOriginal, pushMerged } from './image.ts';
import {
  NOTHING_SKIPPED,
  type Skipped,
  type UnpackForm,
  type UnpackOptions,
  type UnpackPlan,
  type UnpackResult,
} from './options.ts';
import { skippedByTar, tarFileOf } from './tar.ts';
import { planTree, type TreePlan } from './tree.ts';

/** A target that is a store of images, and not the path of a directory. */
const STORE = /^(docker:\/\/|(oci|oci-archive|docker-archive|dir):)/;

/** The form that a target has when none is chosen. */
export const formOf = (target: ImageInput): UnpackForm => {
  if (typeof target !== 'string' || STORE.test(target)) return 'image';
  return target === STREAM || target.endsWith('.tar') ? 'tar' : 'dir';
};

/**
 * Unpacks `source`. Nothing is at the target before all of it is: a directory or file is renamed into place, a tag moves
 * last. PRECONDITION for a directory that is not empty.
 */
export async function unpack(
  source: ImageInput,
  target: ImageInput,
  options: UnpackOptions = {},
): Promise<UnpackResult> {
  const format = options.format ?? formOf(target);
  const plan = planOf(options);
  if (options.layers === true) {
    if (format !== 'image')
      throw usage('layers can only be copied to an image, not to a directory or tar', 'for example oci:DIR:REF');
    return await unpackLayers(source, target, options);
  }
  const { image, config } = await openWithConfig(source, options, format === 'image');
  await using _ = image;
  const tree = planTree(image.root, image.subject);
  const entries = tree.directories.length + tree.inodes.length + tree.links.length;
  const result = { source: image.subject, target: inputName(target), format, digest: null, entries, bytes: tree.bytes };
  if (format !== 'image') {
    if (typeof target !== 'string')
      throw usage(`the target of the format ${format} must be a path`, 'leave the format out');
    const make = format === 'dir' ? unpackDirectory : unpackTar;
    return { ...result, skipped: await make(image, tree, target, plan) };
  }
  await using opened = await openTarget(target, options);
  const to = opened.store;
  const compress = options.compress ?? (inputName(target).startsWith('docker-archive:') ? 'none' : 'gzip');
  const { digest } = await pushMerged(image, tree, config, to, compress, plan);
  return { ...result, target: to.subject, digest, skipped: skippedByTar(tree) };
}

function planOf(options: UnpackOptions): UnpackPlan {
  const uid = process.getuid?.() ?? 0;
  return {
    rootless: options.rootless ?? uid !== 0,
    uid,
    gid: process.getgid?.() ?? 0,
    onProgress: callback(options.onProgress, 'onProgress'),
    signal: options.signal ?? new AbortController().signal,
  };
}

async function openTarget(target: ImageInput, options: UnpackOptions): Promise<OpenedSource> {
  if (referenceOf(target)?.transport === 'rafs') {
    throw usage('rafs: cannot be a target: it names files of a lazy image', 'for example oci:DIR:REF');
  }
  return await openSource(target, { create: true, ...options.target });
}

const usage = (problem: string, hint: string): LacunaError => new LacunaError('USAGE', problem, { op: 'unpack', hint });

async function unpackLayers(source: ImageInput, target: ImageInput, options: UnpackOptions): Promise<UnpackResult> {
  await using opened = await openSource(source, options.store);
  await using made = await openTarget(target, options);
  const [from, to] = [opened.store, made.store];
  const { digest } = await copyOriginal(from, to, options);
  return {
    source: from.subject,
    target: to.subject,
    format: 'image',
    digest,
    entries: null,
    bytes: null,
    skipped: NOTHING_SKIPPED,
  };
}

/** The image, and the bytes of its config if they are needed and it has one. */
async function openWithConfig(
  input: ImageInput,
  options: UnpackOptions,
  needsConfig: boolean,
): Promise<{ image: OpenedImage; config: Buffer | null }> {
  if (referenceOf(input)?.transport === 'rafs') return { image: await openImage(input, options), config: null };
  const source = await openSource(input, options.store);
  const { store } = source;
  const image = await openStored(source, options);
  if (!needsConfig || image.manifest === null) return { image, config: null };
  try {
    const signal = options.signal === undefined ? {} : { signal: options.signal };
    return { image, config: await store.manifest(image.manifest.manifest.config, signal) };
  } catch (error) {
    await image.close();
    throw error;
  }
}

async function unpackTar(image: OpenedImage, tree: TreePlan, target: string, plan: UnpackPlan): Promise<Skipped> {
  const skipped = skippedByTar(tree);
  if (target === STREAM) {
    await writeToStdout(tarFileOf(image, tree, plan));
    return skipped;
  }
  const temporary = join(dirname(target), `.${basename(target)}.lacuna-${randomUUID()}`);
  try {
    await writeWhole(target, temporary, tarFileOf(image, tree, plan));
    return skipped;
  } catch (cause) {
    throw toLacunaError(cause, { op: 'unpack', subject: target });
  }
}
