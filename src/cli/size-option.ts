/** The value of an option that is a size. */
import { InvalidArgumentError } from 'commander';
import { parseSize, SIZE_FORMS } from '../config/units.ts';

export function sizeOption(text: string): number {
  const bytes = parseSize(text);
  if (bytes === null) throw new InvalidArgumentError(`give a size with its unit: ${SIZE_FORMS}.`);
  return bytes;
}
