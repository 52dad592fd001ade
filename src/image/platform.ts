/** Platforms: `os/architecture[/variant]`, and which manifest of an index is for one. */
import { LacunaError } from '../errors.ts';
import type { Descriptor, ImageConfig, Index } from './manifest.ts';

/** The platform of an image, in the words of Go. */
export interface Platform {
  /** Operating system, e.g. `linux`. */
  readonly os: string;
  /** Processor architecture, e.g. `amd64`. */
  readonly architecture: string;
  /** Variant of the architecture, e.g. `v8`; null when there is none. */
  readonly variant: string | null;
}

/** Other names of architectures, as containerd's platforms package normalises them. */
const ARCHITECTURES: Readonly<Record<string, [architecture: string, variant: string | null]>> = {
  x86_64: ['amd64', null],
  'x86-64': ['amd64', null],
  i386: ['386', null],
  i686: ['386', null],
  aarch64: ['arm64', null],
  armhf: ['arm', 'v7'],
  armel: ['arm', 'v6'],
};

/** Architectures as Node names them. */
const NODE_ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  arm64: 'arm64',
  arm: 'arm',
  ppc64: 'ppc64le',
  s390x: 's390x',
  riscv64: 'riscv64',
  loong64: 'loong64',
};

function normalize(os: string, architecture: string, variant: string | null): Platform {
  const lower = architecture.toLowerCase();
  const [name, implied] = Object.hasOwn(ARCHITECTURES, lower) ? ARCHITECTURES[lower]! : [lower, null];
  let chosen = variant === null || variant === '' ? implied : variant.toLowerCase();
  if (chosen !== null && /^[0-9]+$/.test(chosen)) chosen = `v${chosen}`;
  if (name === 'arm64' && chosen === 'v8') chosen = null;
  if (name === 'amd64' && chosen === 'v1') chosen = null;
  if (name === 'arm' && chosen === null) chosen = 'v7';
  return { os: os.toLowerCase(), architecture: name, variant: chosen };
}

/** A platform from `linux/arm64/v8`. Throws a LacunaError USAGE. */
export function parsePlatform(text: string): Platform {
  const parts = text.split('/');
  if (parts.length < 2 || parts.length > 3 || parts.some((part) => !/^[A-Za-z0-9_.-]{1,64}$/.test(part))) {
    throw new LacunaError('USAGE', `not a platform: ${JSON.stringify(text.slice(0, 128))}`, {
      op: 'parse platform',
      hint: 'os/architecture[/variant], for example linux/arm64/v8',
    });
  }
  return normalize(parts[0]!, parts[1]!, parts[2] ?? null);
}

/** The text of a platform. */
export const formatPlatform = (platform: Platform): string =>
  [platform.os, platform.architecture, ...(platform.variant === null ? [] : [platform.variant])].join('/');

/** The platform of this machine's images. Always Linux: containers elsewhere run in a Linux guest. */
export const hostPlatform = (): Platform => normalize('linux', NODE_ARCHITECTURES[process.arch] ?? process.arch, null);

/** A platform as the entry of an index has it. */
type NamedPlatform = NonNullable<Descriptor['platform']>;

/** The platform as an index would name it; null where the config does not say. */
export function platformOfConfig({ os, architecture, variant }: ImageConfig): NamedPlatform | null {
  if (!os || !architecture) return null;
  return variant ? { os, architecture, variant } : { os, architecture };
}

/** Whether an entry of an index names its platform. */
export const namesPlatform = ({ platform }: Descriptor): boolean => platform !== undefined && platform.os !== '';

/** How well an entry fits: 0 = exactly, larger = less well, null = not at all. */
function distance(entry: Descriptor, wanted: Platform): number | null {
  if (entry.platform === undefined || !namesPlatform(entry)) return null;
  const has = normalize(entry.platform.os, entry.platform.architecture, entry.platform.variant ?? null);
  if (has.os !== wanted.os || has.architecture !== wanted.architecture) return null;
  if (has.variant === wanted.variant) return 0;
  // A newer 32-bit ARM runs what was built for an older one, and a newer amd64 or arm64 level runs the base level.
  const level = (variant: string | null): number => Number(/^v([0-9]{1,2})$/.exec(variant ?? 'v0')?.[1] ?? Number.NaN);
  const below = level(wanted.variant) - level(has.variant);
  return below > 0 ? below : null;
}

/** Every manifest of `index` that runs on `platform`, the best first, equals in the order of the index. */
export function matchPlatforms(index: Index, platform: Platform): Descriptor[] {
  return index.manifests
    .map((entry) => ({ entry, distance: distance(entry, platform) }))
    .filter((row): row is { entry: Descriptor; distance: number } => row.distance !== null)
    .sort((a, b) => a.distance - b.distance)
    .map((row) => row.entry);
}

/** The best manifest of `index` for `platform`, or null. A lone entry that names no platform is taken as it is. */
export function matchPlatform(index: Index, platform: Platform): Descriptor | null {
  const [best] = matchPlatforms(index, platform);
  if (best !== undefined) return best;
  const [only] = index.manifests;
  return index.manifests.length === 1 && only !== undefined && !namesPlatform(only) ? only : null;
}
