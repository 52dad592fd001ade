import { describe } from 'vitest';
import { variantsSuite } from '../../kit/rafs-variants.ts';
import { readerSuite } from '../../kit/reader-suite.ts';
import { needs } from '../../kit/skip.ts';

const skip = needs('addon');

describe.skipIf(skip.reason)('reading images, with the addon', readerSuite);
describe.skipIf(skip.reason)('variants of RAFS v6, with the addon', () => variantsSuite());
