# bash completion for holdfast; made by: holdfast completion bash
_holdfast() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= i
  COMPREPLY=()
  if [[ $prev == -p || $prev == --pool ]]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    return
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
      -p|--pool) ((i++)) ;;
      -*) ;;
      *) command=${COMP_WORDS[i]}; break ;;
    esac
  done
  case $command in
    "")
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "-V --version -p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "put get ls stat rm push pull check-store stores status verify repair drain rebalance create forget drill serve exec completion help" -- "$cur")
      fi ;;
    put)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "-p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      fi ;;
    get)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "-p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      fi ;;
    ls)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "-l --long -0 --null -p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
    stat)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "-p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
    rm)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "-f --force -p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
    push)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "-j --jobs --links -n --dry-run --delete --force -p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
      fi ;;
    pull)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "-j --jobs -n --dry-run --delete --force -p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -d -- "$cur")
      fi ;;
    check-store)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "--full --no-speed -p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
    stores)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "-p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
    status)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "--debts -p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
    verify)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "--quick --sample --restart -p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
    repair)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "-n --dry-run --quick --refill --discard-damaged -p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
    drain)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "-n --dry-run --leave-copies --cancel -p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
    rebalance)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "-n --dry-run --mode --min --prefixes -p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
    create)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "-p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
    forget)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "--whole-pool -p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
    drill)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "--store --sample -p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
    serve)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "--s3 --webdav --restic --metrics --credentials --cert --key --bucket --spool --append-only --ready-when --grace --log-level -p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
    exec)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "--for -p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
    completion)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "-p --pool --json -q --quiet --debug --no-color -h --help" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "bash zsh fish" -- "$cur")
      fi ;;
    help)
      if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      else
        mapfile -t COMPREPLY < <(compgen -W "" -- "$cur")
      fi ;;
  esac
}
complete -o filenames -F _holdfast holdfast
