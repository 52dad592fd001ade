/** Text from elsewhere on a terminal or in a log: nothing in it drives the terminal or reorders the line. */

/** C0 and C1 controls, what sets the direction of text, and the separators that end a line for some readers. */
const UNPRINTABLE = /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu;

/**
 * `text` with control and direction characters as `\uXXXX`. In a JSON text they can only stand inside of strings, so that
 * one stays the same value.
 */
export const printable = (text: string): string =>
  text.replace(UNPRINTABLE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** A name as it is; one with such characters as a JSON string, which shows where it begins and ends. */
export const printableName = (name: string): string =>
  printable(name) === name ? name : printable(JSON.stringify(name));

/** `value` as JSON that no terminal takes for a command. */
export const printableJson = (value: unknown): string => printable(JSON.stringify(value));

/** Text of several lines: what follows the first line is indented, so that it cannot pass for a line of its own. */
export const printableLines = (text: string): string => text.split('\n').map(printable).join('\n  ');
