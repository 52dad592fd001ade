/** A terminal as far as Lacuna drives one: text, line ends, cursor up, and clearing what is below. */
export class Terminal {
  readonly isTTY = true;
  readonly columns: number;
  readonly rows: number;
  readonly #lines: string[] = [''];
  #row = 0;
  #column = 0;

  constructor(columns = 80, rows = 24) {
    this.columns = columns;
    this.rows = rows;
  }

  write(text: string): boolean {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a terminal acts on.
    for (const [piece, up, clear] of text.matchAll(/\x1b\[(\d+)A|\x1b\[(J)|[\s\S]/g)) {
      if (up !== undefined) this.#row -= Number(up);
      else if (clear !== undefined) this.#clear();
      else if (piece === '\r') this.#column = 0;
      else if (piece === '\n') this.#newline();
      else this.#put(piece);
    }
    if (this.#row < 0) throw new Error('the cursor is above the first line');
    return true;
  }

  /** What is on it, without the empty line at its end. */
  get text(): string {
    return this.#lines.join('\n').replace(/\n$/, '');
  }

  #put(character: string): void {
    if (this.#column === this.columns) this.#newline();
    const line = this.#lines[this.#row]!;
    this.#lines[this.#row] = line.slice(0, this.#column) + character + line.slice(this.#column + 1);
    this.#column += 1;
  }

  #newline(): void {
    this.#row += 1;
    this.#column = 0;
    this.#lines[this.#row] ??= '';
  }

  #clear(): void {
    this.#lines.length = this.#row + 1;
    this.#lines[this.#row] = this.#lines[this.#row]!.slice(0, this.#column);
  }
}
