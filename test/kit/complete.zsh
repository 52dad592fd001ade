# usage: zsh -f complete.zsh SCRIPT LINE…
# For each line, the words that an interactive zsh with SCRIPT offers behind it, separated by spaces.
zmodload zsh/zpty
script=$1; shift
zpty shell zsh -f -i
# compadd(1) itself tells what matches: -O puts it into an array, and then it is offered as usual.
zpty -w shell "PS1= RPS1=; unsetopt beep
autoload -Uz compinit; compinit -u -D; source ${(q)script}
offers() {
  offered=()
  compadd() { builtin compadd -O found \"\$@\"; offered+=(\$found); builtin compadd \"\$@\" }
  _main_complete
  unfunction compadd
  compstate[insert]= compstate[list]=
  print -r -- \"<offer>\${(j: :)offered}</off\"er\">\"
}
zle -C offers complete-word offers; bindkey '^X' offers
print -r -- '<read''y>'"

read-until() {
  local piece
  REPLY=
  while zpty -r shell piece "*$1*"; do
    REPLY+=$piece
    [[ $REPLY == *$1* ]] && return
  done
}
read-until '<ready>'
for line in "$@"; do
  zpty -w -n shell "$line"$'\C-X'
  read-until '</offer>'
  REPLY=${REPLY##*<offer>}
  print -r -- "${REPLY%%</offer>*}"
  zpty -w -n shell $'\C-U'
done
zpty -d shell
