/** Completion for zsh: a function for its `fpath`, or `source <(lacuna completion zsh)`. */
import { type CompletedCommand, type CompletedOption, TRANSPORTS, type Value } from './model.ts';

/** In single quotes, as a part of a specification of `_arguments`. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
/** Descriptions stand in brackets, and colons end them. */
const plain = (text: string): string => text.replace(/[\\[\]:]/g, '\\$&');

function actionOf(value: Value): string {
  switch (value.kind) {
    case 'words':
      return `(${value.words.join(' ')})`;
    case 'file':
      return '_files';
    case 'directory':
      return '_files -/';
    case 'image':
      return '_lacuna_image';
    case 'free':
      return ' ';
  }
}

function optionSpecs({ flags, description, value }: CompletedOption): string[] {
  const others = flags.length > 1 ? `(${flags.join(' ')})` : '';
  const action = value === null ? '' : `:value:${actionOf(value)}`;
  return flags.map((flag) =>
    quoted(
      `${others}${flag}${value === null ? '' : flag.startsWith('--') ? '=' : '+'}[${plain(description)}]${action}`,
    ),
  );
}

function commandCase({ name, options, arguments: positions }: CompletedCommand): string {
  const specs = [
    ...options.flatMap(optionSpecs),
    ...positions.map(({ name: what, value, isVariadic }, at) =>
      quoted(`${isVariadic ? '*' : at + 1}:${plain(what)}:${actionOf(value)}`),
    ),
  ];
  return `        ${name})\n          _arguments \\\n${specs.map((spec) => `            ${spec}`).join(' \\\n')}\n          ;;`;
}

export function zshCompletion(commands: readonly CompletedCommand[]): string {
  const summaries = commands.map(({ name, summary }) => `        ${quoted(`${name}:${plain(summary)}`)}`);
  return `#compdef lacuna
# Completion of lacuna for zsh, made by \`lacuna completion zsh\`.

_lacuna_image() {
  if compset -P 'docker:*'; then return 1; fi
  if compset -P '[a-z-]#:'; then _files; return; fi
  compadd -S '' -- ${TRANSPORTS.join(' ')}
}

_lacuna() {
  local curcontext=$curcontext state line
  local -a subcommands
  typeset -A opt_args
  setopt localoptions extendedglob
  _arguments -C '(- *)--help[display help]' '(- *)--version[output the version number]' '1: :->command' '*:: :->rest'
  case $state in
    command)
      subcommands=(
${summaries.join('\n')}
      )
      _describe command subcommands
      ;;
    rest)
      case $line[1] in
${commands.map(commandCase).join('\n')}
      esac
      ;;
  esac
}

if [[ $funcstack[1] == _lacuna ]]; then _lacuna "$@"; else compdef _lacuna lacuna; fi
`;
}
