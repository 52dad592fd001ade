/** Values of `--platform`. */
import { InvalidArgumentError } from 'commander';

const ALL = 'all';

/** Of a command that takes several: repeated or with commas. `all`, which is the default, takes back what was named. */
export function platformsOption(text: string, before: readonly string[] = []): string[] {
  const platforms = text.split(',').map((name) => name.trim());
  return platforms.includes(ALL) ? [] : [...before, ...platforms];
}

/** Of a command that looks into one image. */
export function platformOption(text: string): string {
  if (!text.includes(',') && text !== ALL) return text;
  throw new InvalidArgumentError('give one platform, for example linux/arm64.');
}
