/** Values of arguments and options that name images, checked before anything is opened. */
import { LacunaError } from '../errors.ts';
import { refuseBarePath } from '../registry/local/recognize.ts';

/** A reference. What exists as a file and has no transport is an error that names the one it needs. */
export function imageArgument(text: string): string {
  refuseBarePath(text);
  if (!text.startsWith('sqlite:')) return text;
  throw new LacunaError('REFERENCE', `${JSON.stringify(text)} is a dictionary, not an image`, {
    op: 'parse reference',
    subject: text,
    hint: `--dict ${text}, or lacuna dict stat ${text.slice('sqlite:'.length)}`,
  });
}

export const imageArguments = (text: string, before: readonly string[] | undefined): string[] => [
  ...(before ?? []),
  imageArgument(text),
];

/** A value of `--dict`: an image, or `sqlite:FILE`. */
export function dictOption(text: string, before: readonly string[] | undefined): string[] {
  refuseBarePath(text);
  return [...(before ?? []), text];
}
