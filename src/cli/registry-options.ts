/** The options that every verb has which speaks to a registry, and what they mean to the library. */
import { readFile } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import { dockerConfigCredentials } from '../registry/credentials.ts';
import type { ForeignLayerPolicy, StoreOptions } from '../registry/store.ts';
import type { CliContext } from './verb.ts';

/** Help for an argument that names an image of a store. */
export const SOURCE_FORMS =
  'docker://HOST/NAME:TAG, oci:DIR:REF, oci-archive:FILE:REF, docker-archive:FILE:NAME:TAG, dir:DIR, or a bare name; ' +
  'FILE - is standard input';

/** Help for an argument that names an image to read, bare files included. */
export const IMAGE_FORMS = `rafs:BOOTSTRAP[,blobs=DIR], ${SOURCE_FORMS}`;

/** Help for an argument that names where an image goes. */
export const TARGET_FORMS =
  'docker://HOST/NAME:TAG, oci:DIR:REF, oci-archive:FILE:REF, dir:DIR, or a bare name; FILE - is standard output, ' +
  'which then carries nothing else: the result goes to standard error';

interface RegistryOptions {
  readonly plainHttp?: boolean;
  readonly ca?: string;
  readonly foreignLayers: ForeignLayerPolicy;
  readonly transport: 'undici' | 'node-fetch';
}

export function withRegistryOptions(command: Command): Command {
  return command
    .option('--plain-http', 'use HTTP (default: for loopback hosts only)')
    .option('--ca <file>', 'PEM certificates to trust besides the system ones')
    .addOption(
      new Option('--foreign-layers <when>', 'fetch layers that the store lacks from the urls that the image names')
        .choices(['public', 'always', 'never'])
        .default('public'),
    )
    .addOption(new Option('--transport <name>', 'HTTP client').choices(['undici', 'node-fetch']).default('undici'));
}

/** Declares whether lazy images that refer to the one that is named are looked for. */
export function withReferrers(command: Command): Command {
  return command
    .option('--referrers', 'use a lazy image that refers to this one (default: unless a digest is named)')
    .option('--no-referrers', 'do not look for one');
}

export const referrersOf = ({ referrers }: Record<string, unknown>): { readonly referrers?: boolean } =>
  typeof referrers === 'boolean' ? { referrers } : {};

/** Credentials come from docker's config and its helpers. */
export async function storeOptions(context: CliContext, options: Record<string, unknown>): Promise<StoreOptions> {
  const { plainHttp, ca, foreignLayers, transport } = options as unknown as RegistryOptions;
  return {
    credentials: dockerConfigCredentials(),
    foreignLayers,
    transport,
    log: context.log,
    ...(plainHttp === undefined ? {} : { plainHttp }),
    ...(ca === undefined ? {} : { ca: await readFile(ca, 'utf8') }),
  };
}
