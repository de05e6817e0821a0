# bash completion for holdfast; made by: holdfast completion bash
_holdfast_offer() {
  mapfile -t COMPREPLY < <(compgen "$@" -- "$cur")
}
# Names of the pool's stores or objects.
_holdfast_ask() {
  mapfile -t COMPREPLY < <("${words[0]}" ${pool:+-p "$pool"} complete "$1" -- "$cur" 2>/dev/null)
  [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace
}
_holdfast() {
  local cur pool= command= previous= place=0 typed i word
  local -a words=()
  COMPREPLY=()
  # bash takes a word apart at each : and =.
  for ((i = 0; i <= COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if ((i > 1)) && [[ $word == [:=]* || ${COMP_WORDS[i-1]} == *[:=] ]]; then
      words[-1]+=$word
    else
      words+=("$word")
    fi
  done
  typed=${words[-1]}
  for ((i = 1; i < ${#words[@]} - 1; i++)); do
    word=${words[i]//[\\\'\"]/}
    if [[ $previous == -p || $previous == --pool ]]; then pool=${word/#\~/$HOME}; fi
    if [[ -n $previous ]]; then previous=; continue; fi
    case $word in
      -p|--pool|-j|--jobs|--links|--sample|--refill|--leave-copies|--mode|--min|--store|--s3|--webdav|--restic|--metrics|--credentials|--cert|--key|--bucket|--spool|--ready-when|--grace|--log-level|--for|--degraded-exit) previous=$word ;;
      --pool=*) pool=${word#*=} ;;
      -?*) ;;
      *) if [[ -z $command ]]; then command=$word; else ((place++)); fi ;;
    esac
  done
  cur=${typed//[\\\'\"]/}
  if [[ -n $previous ]]; then
    place=$previous
  elif [[ $cur == --*=* ]]; then
    place=${cur%%=*} cur=${cur#*=}
  elif [[ $cur == -* ]]; then
    place=-
  fi
  case $command:$place in
    *:-p|*:--pool) _holdfast_offer -f ;;
    :-) _holdfast_offer -W "-V --version -p --pool --json -q --quiet --debug --no-color -h --help" ;;
    :0) _holdfast_offer -W "put get ls stat rm push pull check-store stores status verify repair drain rebalance create forget drill serve exec completion help" ;;
    put:-p|put:--pool) _holdfast_offer -f ;;
    put:-) _holdfast_offer -W "-p --pool --json -q --quiet --debug --no-color -h --help" ;;
    put:0) _holdfast_offer -f ;;
    put:1) _holdfast_ask objects ;;
    get:-p|get:--pool) _holdfast_offer -f ;;
    get:-) _holdfast_offer -W "-p --pool --json -q --quiet --debug --no-color -h --help" ;;
    get:0) _holdfast_ask objects ;;
    get:1) _holdfast_offer -f ;;
    ls:-p|ls:--pool) _holdfast_offer -f ;;
    ls:-) _holdfast_offer -W "-l --long -0 --null -p --pool --json -q --quiet --debug --no-color -h --help" ;;
    ls:0) _holdfast_ask objects ;;
    stat:-p|stat:--pool) _holdfast_offer -f ;;
    stat:-) _holdfast_offer -W "-p --pool --json -q --quiet --debug --no-color -h --help" ;;
    stat:0) _holdfast_ask objects ;;
    rm:-p|rm:--pool) _holdfast_offer -f ;;
    rm:-) _holdfast_offer -W "-f --force -p --pool --json -q --quiet --debug --no-color -h --help" ;;
    rm:0) _holdfast_ask objects ;;
    rm:*) _holdfast_ask objects ;;
    push:-j|push:--jobs) : ;;
    push:--links) _holdfast_offer -W "report follow ignore" ;;
    push:-p|push:--pool) _holdfast_offer -f ;;
    push:-) _holdfast_offer -W "-j --jobs --links -n --dry-run --delete --force -p --pool --json -q --quiet --debug --no-color -h --help" ;;
    push:0) _holdfast_offer -d ;;
    push:1) _holdfast_ask objects ;;
    pull:-j|pull:--jobs) : ;;
    pull:-p|pull:--pool) _holdfast_offer -f ;;
    pull:-) _holdfast_offer -W "-j --jobs -n --dry-run --delete --force -p --pool --json -q --quiet --debug --no-color -h --help" ;;
    pull:0) _holdfast_offer -d ;;
    pull:1) _holdfast_ask objects ;;
    check-store:-p|check-store:--pool) _holdfast_offer -f ;;
    check-store:-) _holdfast_offer -W "--full --no-speed -p --pool --json -q --quiet --debug --no-color -h --help" ;;
    check-store:0) _holdfast_offer -f ;;
    stores:-p|stores:--pool) _holdfast_offer -f ;;
    stores:-) _holdfast_offer -W "-p --pool --json -q --quiet --debug --no-color -h --help" ;;
    status:-p|status:--pool) _holdfast_offer -f ;;
    status:-) _holdfast_offer -W "--debts -p --pool --json -q --quiet --debug --no-color -h --help" ;;
    verify:--sample) : ;;
    verify:-p|verify:--pool) _holdfast_offer -f ;;
    verify:-) _holdfast_offer -W "--quick --sample --restart -p --pool --json -q --quiet --debug --no-color -h --help" ;;
    verify:0) _holdfast_ask objects ;;
    repair:--refill) _holdfast_ask stores ;;
    repair:-p|repair:--pool) _holdfast_offer -f ;;
    repair:-) _holdfast_offer -W "-n --dry-run --quick --refill --discard-damaged --trust-stores -p --pool --json -q --quiet --debug --no-color -h --help" ;;
    repair:0) _holdfast_ask objects ;;
    drain:--leave-copies) : ;;
    drain:-p|drain:--pool) _holdfast_offer -f ;;
    drain:-) _holdfast_offer -W "-n --dry-run --leave-copies --cancel -p --pool --json -q --quiet --debug --no-color -h --help" ;;
    drain:0) _holdfast_ask stores ;;
    rebalance:--mode) _holdfast_offer -W "mirror stripe" ;;
    rebalance:--min) : ;;
    rebalance:-p|rebalance:--pool) _holdfast_offer -f ;;
    rebalance:-) _holdfast_offer -W "-n --dry-run --mode --min --prefixes -p --pool --json -q --quiet --debug --no-color -h --help" ;;
    create:-p|create:--pool) _holdfast_offer -f ;;
    create:-) _holdfast_offer -W "-p --pool --json -q --quiet --debug --no-color -h --help" ;;
    forget:-p|forget:--pool) _holdfast_offer -f ;;
    forget:-) _holdfast_offer -W "--whole-pool -p --pool --json -q --quiet --debug --no-color -h --help" ;;
    forget:0) _holdfast_ask stores ;;
    drill:--store) _holdfast_ask stores ;;
    drill:--sample) : ;;
    drill:-p|drill:--pool) _holdfast_offer -f ;;
    drill:-) _holdfast_offer -W "--store --sample -p --pool --json -q --quiet --debug --no-color -h --help" ;;
    serve:--s3) : ;;
    serve:--webdav) : ;;
    serve:--restic) : ;;
    serve:--metrics) : ;;
    serve:--credentials) _holdfast_offer -f ;;
    serve:--cert) _holdfast_offer -f ;;
    serve:--key) _holdfast_offer -f ;;
    serve:--bucket) : ;;
    serve:--spool) _holdfast_offer -d ;;
    serve:--ready-when) _holdfast_offer -W "whole readable" ;;
    serve:--grace) : ;;
    serve:--log-level) _holdfast_offer -W "debug info warn error" ;;
    serve:-p|serve:--pool) _holdfast_offer -f ;;
    serve:-) _holdfast_offer -W "--s3 --webdav --restic --metrics --credentials --cert --key --bucket --spool --append-only --ready-when --grace --log-level -p --pool --json -q --quiet --debug --no-color -h --help" ;;
    exec:--for) _holdfast_offer -W "duplicity restic rclone kopia aws s3 webdav" ;;
    exec:--degraded-exit) : ;;
    exec:-p|exec:--pool) _holdfast_offer -f ;;
    exec:-) _holdfast_offer -W "--for --degraded-exit -p --pool --json -q --quiet --debug --no-color -h --help" ;;
    exec:0) _holdfast_offer -c ;;
    exec:*) _holdfast_offer -f ;;
    completion:-p|completion:--pool) _holdfast_offer -f ;;
    completion:-) _holdfast_offer -W "-p --pool --json -q --quiet --debug --no-color -h --help" ;;
    completion:0) _holdfast_offer -W "bash zsh fish" ;;
    help:-) _holdfast_offer -W "" ;;
    help:0) _holdfast_offer -W "put get ls stat rm push pull check-store stores status verify repair drain rebalance create forget drill serve exec completion help" ;;
  esac
  # What stands before the last : is not replaced.
  if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"${cur%"${cur##*:}"}"}")
  fi
}
complete -o filenames -F _holdfast holdfast
