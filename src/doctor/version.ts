/** Versions of the parts of Lacuna, for bug reports. */
import { findAddon } from '../native/addon.ts';
import { packageVersion } from '../observe/package-version.ts';

/** Versions of what runs. */
export interface Version {
  /** Version of the package. */
  readonly lacuna: string;
  /** Null where the native addon cannot be loaded. */
  readonly addon: string | null;
  /** Version of Node. */
  readonly node: string;
  /** As in `linux/x64`: Node's words. */
  readonly platform: string;
}

export function version(): Version {
  return {
    lacuna: packageVersion(),
    addon: findAddon()?.version() ?? null,
    node: process.versions.node,
    platform: `${process.platform}/${process.arch}`,
  };
}
