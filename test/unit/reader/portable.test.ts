import { describe, vi } from 'vitest';
import { variantsSuite } from '../../kit/rafs-variants.ts';
import { readerSuite } from '../../kit/reader-suite.ts';
import { needs } from '../../kit/skip.ts';

vi.mock('../../../src/native/addon.ts', async (load) => ({ ...(await load<object>()), findAddon: () => null }));

const skip = needs('zstd-napi', '@napi-rs/blake-hash');

describe.skipIf(skip.reason)('reading images, without the addon', readerSuite);
describe.skipIf(skip.reason)('variants of RAFS v6, without the addon', () => variantsSuite(['lz4']));
