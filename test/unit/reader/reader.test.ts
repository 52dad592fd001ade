import { describe } from 'vitest';
import { readerSuite } from '../../kit/reader-suite.ts';
import { needs } from '../../kit/skip.ts';

const skip = needs('addon');

describe.skipIf(skip.reason)('reading images, with the addon', readerSuite);
