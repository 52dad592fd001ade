import { describe, vi } from 'vitest';
import { readerSuite } from '../../kit/reader-suite.ts';
import { needs } from '../../kit/skip.ts';

vi.mock('../../../src/native/addon.ts', async (load) => ({ ...(await load<object>()), findAddon: () => null }));

const skip = needs('zstd-napi', '@napi-rs/blake-hash');

describe.skipIf(skip.reason)('reading images, without the addon', readerSuite);
