/** Colour, on terminals only, as `NO_COLOR` and `FORCE_COLOR` say. */
import { styleText } from 'node:util';

export type Style = 'red' | 'green' | 'yellow' | 'dim' | 'bold';

/** `text` in a style where `stream`, by default stderr, shows colours. */
export const paint = (style: Style, text: string, stream: NodeJS.WriteStream = process.stderr): string =>
  styleText(style, text, { stream, validateStream: true });
