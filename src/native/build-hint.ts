/** How to come by the native parts: in a checkout they are built, an installed package has nothing to build them from. */
import { existsSync } from 'node:fs';

const isCheckout = existsSync(new URL('../../native/Cargo.toml', import.meta.url));

export const BUILD_HINT = isCheckout
  ? 'build it with `npm run build:native` (needs Rust 1.88 or newer and a C compiler)'
  : 'this package has none for this machine: install one that `npm pack` made in a checkout on a machine of this kind';
