/** Completion for bash, with nothing but bash: `source <(lacuna completion bash)`. */
import { type CompletedCommand, TRANSPORTS, type Value } from './model.ts';

/** A kind and, of words, the words: what `_lacuna_complete` takes. */
const kindOf = (value: Value): string => (value.kind === 'words' ? `words ${value.words.join(' ')}` : value.kind);

function commandCases(command: CompletedCommand): string {
  const flags = command.options.flatMap((option) => option.flags);
  const values = command.options.flatMap(({ flags: names, value }) =>
    value === null ? [] : [`    ${command.name}:${names.join(` | ${command.name}:`)}) echo '${kindOf(value)}' ;;`],
  );
  const positions = command.arguments.map(
    ({ value, isVariadic }, at) => `    ${command.name}:${isVariadic ? 'rest' : at}) echo '${kindOf(value)}' ;;`,
  );
  return [`    ${command.name}:) echo '${flags.join(' ')}' ;;`, ...values, ...positions].join('\n');
}

export function bashCompletion(commands: readonly CompletedCommand[]): string {
  return `# Completion of lacuna for bash, made by \`lacuna completion bash\`.

# COMMAND: → its options; COMMAND:OPTION → what its value is; COMMAND:NUMBER → what an argument is, from 0, COMMAND:rest → what all
# further ones are. Nothing for all else.
_lacuna_table() {
  case $1 in
${commands.map(commandCases).join('\n')}
  esac
}

# _lacuna_complete WORD KIND [WORDS]: fills COMPREPLY.
_lacuna_complete() {
  case $2 in
    words) mapfile -t COMPREPLY < <(compgen -W "\${*:3}" -- "$1") ;;
    file) compopt -o filenames 2> /dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$1") ;;
    directory) compopt -o filenames 2> /dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$1") ;;
    image)
      compopt -o nospace 2> /dev/null
      if [[ $1 == docker:* ]]; then return; fi
      if [[ $1 == *:* ]]; then
        compopt -o filenames 2> /dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "\${1#*:}")
        # Readline replaces only what is behind the last of its word breaks.
        if [[ $COMP_WORDBREAKS != *:* ]]; then COMPREPLY=("\${COMPREPLY[@]/#/\${1%%:*}:}"); fi
      else
        mapfile -t COMPREPLY < <(compgen -W '${TRANSPORTS.join(' ')}' -- "$1")
      fi
      ;;
  esac
}

_lacuna() {
  local command= word= kind= option= rest=\${COMP_LINE:0:COMP_POINT} position=0
  local -a words
  COMPREPLY=()
  # Not COMP_WORDS: it cuts oci:DIR:REF in pieces. A space behind a backslash belongs to its word.
  rest=\${rest//\\\\ /$'\\1'}
  read -ra words <<< "$rest"
  if [[ $rest == *[[:space:]] ]]; then words+=(''); fi
  local last=$((\${#words[@]} - 1)) i
  for ((i = 1; i < last; i++)); do
    word=\${words[i]}
    if [[ -n $option ]]; then option=
    elif [[ -z $command ]]; then [[ $word == -* ]] || command=$word
    elif [[ $word == -*=* ]]; then :
    elif [[ $word == -* ]]; then [[ -n $(_lacuna_table "$command:$word") ]] && option=$word
    else ((position += 1))
    fi
  done
  word=\${words[last]//$'\\1'/ }
  if [[ -z $command ]]; then _lacuna_complete "$word" words '${commands.map(({ name }) => name).join(' ')} help --help --version'
  elif [[ -n $option ]]; then _lacuna_complete "$word" $(_lacuna_table "$command:$option")
  elif [[ $word == -*=* ]]; then _lacuna_complete "\${word#*=}" $(_lacuna_table "$command:\${word%%=*}")
  elif [[ $word == -* ]]; then _lacuna_complete "$word" words $(_lacuna_table "$command:")
  else
    kind=$(_lacuna_table "$command:$position")
    _lacuna_complete "$word" \${kind:-$(_lacuna_table "$command:rest")}
  fi
}

complete -F _lacuna lacuna
`;
}
