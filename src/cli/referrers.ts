/** `lacuna referrers IMAGE`. */
import type { Command } from 'commander';
import { type ReferredManifest, type ReferrerNode, referrers } from '../inspect/referrers.ts';
import { humanBytes } from '../observe/human.ts';
import type { CommandSpec } from './command.ts';
import { shown } from './output.ts';
import { SOURCE_FORMS, storeOptions, withRegistryOptions } from './registry-options.ts';

export const command: CommandSpec = {
  name: 'referrers',
  group: 'look',
  summary: 'list what points at an image: signatures, SBOMs, attestations, lazy images',
  examples: ['lacuna referrers docker://registry.example/app:1'],
  configure(command: Command): void {
    withRegistryOptions(command)
      .argument('<image>', SOURCE_FORMS)
      .option('--type <artifact-type>', 'only those of this artifact type');
  },
  async run(context, [image], { type, ...options }) {
    const found = await referrers(image!, {
      store: await storeOptions(context, options),
      signal: context.signal,
      ...(typeof type === 'string' ? { type } : {}),
    });
    const document = { schema: 'lacuna.referrers.v1', reference: image!, manifests: found };
    return { document, text: found.flatMap(describe).join('\n') };
  },
};

/** A manifest without referrers is shown only where it is what the reference names. */
function describe({ digest, platform, referrers: found }: ReferredManifest, at: number): string[] {
  if (at > 0 && found.length === 0) return [];
  const head = platform === null ? digest : `${digest} (${platform})`;
  return [found.length === 0 ? `${head}: no referrers` : head, ...branches(found, '')];
}

function branches(found: readonly ReferrerNode[], indent: string): string[] {
  return found.flatMap(({ digest, artifactType, mediaType, size, annotations, referrers: inner }, i) => {
    const isLast = i === found.length - 1;
    const below = `${indent}${isLast ? '   ' : '│  '}`;
    const notes = Object.entries(annotations).map(([name, value]) => `${below}${shown(name)}=${shown(value)}`);
    return [
      `${indent}${isLast ? '└─' : '├─'} ${artifactType ?? mediaType}  ${digest}  ${humanBytes(size)}`,
      ...notes,
      ...branches(inner, below),
    ];
  });
}
