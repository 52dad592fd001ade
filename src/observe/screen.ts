/**
 * Standard error of a terminal: what is printed stays, and below it are lines that are drawn anew, the progress. Both
 * go through here, so that neither cuts the other. Elsewhere there are no such lines, and all is printed as it is.
 */
const ESC = '\x1b';

export class Screen {
  readonly #stream: NodeJS.WriteStream;
  #lines: readonly string[] = [];
  #shown = 0;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  /** Prints whole lines above the ones that are drawn. */
  print(text: string): void {
    this.hide();
    this.#stream.write(text);
    this.#show();
  }

  /** Replaces the drawn lines; they are cut at the terminal's edge, and only as many as it has are shown. */
  draw(lines: readonly string[]): void {
    this.#lines = lines;
    this.hide();
    this.#show();
  }

  /** Takes the drawn lines off, for something else that writes to the terminal; the next {@link draw} brings them back. */
  hide(): void {
    if (this.#shown > 0) this.#stream.write(`\r${ESC}[${this.#shown}A${ESC}[J`);
    this.#shown = 0;
  }

  /** Keeps the drawn lines as printed ones. */
  keep(): void {
    this.#lines = [];
    this.#shown = 0;
  }

  #show(): void {
    // A terminal without a size yet reports 0.
    const columns = this.#stream.columns || 80;
    const rows = this.#stream.rows || 24;
    const lines = this.#lines.slice(-Math.max(rows - 1, 1));
    if (lines.length > 0) this.#stream.write(lines.map((line) => `${line.slice(0, columns - 1)}\n`).join(''));
    this.#shown = lines.length;
  }
}

/** The one of this process. */
export const screen = new Screen(process.stderr);
