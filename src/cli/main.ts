#!/usr/bin/env node
/**
 * The command line: finds the command and loads it, reports errors, sets the exit code.
 * stdout carries the result only; progress and logs go to stderr.
 */
import { type Command, CommanderError } from 'commander';
import { EXIT, exitCodeOf, type LacunaError, toLacunaError } from '../errors.ts';
import { paint } from '../observe/style.ts';
import { printableJson, printableLines } from '../printable.ts';
import { redact } from '../secrets.ts';
import { COMMANDS, loadAll } from './commands.ts';
import { commandOf } from './frame.ts';
import { programOf } from './program.ts';
import { unknownCommand, usageError } from './usage.ts';

async function main(argv: readonly string[]): Promise<number> {
  let code: number = EXIT.ok;
  const program = programOf();
  const { words, name } = normalize(argv, program);
  let command = program;
  try {
    if (name !== '' && !Object.hasOwn(COMMANDS, name)) throw unknownCommand(name, Object.keys(COMMANDS));
    const specs = name === '' ? await loadAll() : [(await COMMANDS[name]!()).command];
    for (const spec of specs) program.addCommand(commandOf(spec, (exitCode) => (code = exitCode)));
    if (name !== '') command = program.commands[0]!;
    await program.parseAsync(words, { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT.ok;
    const failure = error instanceof CommanderError ? usageError(error, command, words) : error;
    report(failure, words);
    return exitCodeOf(failure);
  }
}

/**
 * The words for the parser and the name of the command in them, '' when there is none or an option before it is unknown.
 * `help NAME` is `NAME --help`, and `-V` is `-v`.
 */
function normalize(argv: readonly string[], { options }: Command): { words: string[]; name: string } {
  const words = argv.map((word, at) => (word === '-V' && at === 0 ? '-v' : word));
  let at = 0;
  for (; words[at]?.startsWith('-'); at++) {
    const [flag, value] = words[at]!.split('=', 2);
    const option = options.find(({ long, short }) => flag === long || flag === short);
    if (option === undefined && flag !== '-h' && flag !== '--help') return { words, name: '' };
    if (option?.required === true && value === undefined) at++;
  }
  const name = words[at] ?? '';
  if (name !== 'help') return { words, name };
  return { words: [...words.slice(0, at), ...words.slice(at + 1), '--help'], name: words[at + 1] ?? '' };
}

const isJson = (words: readonly string[]): boolean =>
  (words.includes('--') ? words.slice(0, words.indexOf('--')) : words).includes('--json');

/** An error for people on stderr, or as a document on stdout where a document was asked for. */
function report(error: unknown, argv: readonly string[]): void {
  const failure = toLacunaError(error);
  if (isJson(argv)) {
    process.stdout.write(`${printableJson({ schema: 'lacuna.error.v1', error: failure.toJSON() })}\n`);
  }
  process.stderr.write(`${paint('red', 'lacuna:')} ${printableLines(lineOf(failure))} [${failure.code}]\n`);
  if (failure.hint !== null) process.stderr.write(`hint: ${printableLines(failure.hint)}\n`);
  const isDebugging = /--log-level[= ](debug|trace)/.test(argv.join(' '));
  if (isDebugging && failure.code === 'INTERNAL' && failure.cause instanceof Error) {
    process.stderr.write(`${printableLines(redact(failure.cause.stack ?? ''))}\n`);
  }
}

/** Operation, message and subject, of which many a message has the others already. */
function lineOf({ op, message, subject }: LacunaError): string {
  const what = op === null || message.startsWith(`${op} `) ? '' : `${op}: `;
  return `${what}${message}${subject === null || message.includes(subject) ? '' : ` (${subject})`}`;
}

// A failed write to stderr, as on a full disk, must not end the work.
process.stderr.on('error', () => {});

// A reader that went away (`lacuna ls … | head`) is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
  const failure = toLacunaError(error, { op: 'write', subject: 'standard output' });
  report(failure, []);
  process.exit(exitCodeOf(failure));
});

process.exitCode = await main(process.argv.slice(2));
