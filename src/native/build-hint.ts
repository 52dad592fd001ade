/** Hint for missing native parts: a checkout can build them, an installed package has no sources. */
import { existsSync } from 'node:fs';

const isCheckout = existsSync(new URL('../../native/Cargo.toml', import.meta.url));

export const BUILD_HINT = isCheckout
  ? 'build it with `npm run build:native` (needs Rust 1.88 or newer and a C compiler)'
  : 'this package has no native parts for this machine: install a package that `npm pack` made on a machine of this kind';
