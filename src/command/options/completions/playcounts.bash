# Completions of bash for playcounts. `playcounts completions bash` prints this; put it into
# /usr/share/bash-completion/completions/playcounts, or `source <(playcounts completions bash)`.

_playcounts() {
    local answer kind word about
    answer=$("${COMP_WORDS[0]}" completions candidates "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return
    COMPREPLY=()
    while IFS=$'\t' read -r word about; do
        if [[ -z ${kind-} ]]; then
            kind=$word
        else
            COMPREPLY+=("$word")
        fi
    done <<<"$answer"
    local last=${COMP_WORDS[COMP_CWORD]}
    [[ $last == "=" ]] && last=
    case $kind in
    files)
        compopt -o filenames 2>/dev/null
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$last")
        ;;
    directories)
        compopt -o filenames 2>/dev/null
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -d -- "$last")
        ;;
    esac
}

complete -F _playcounts playcounts
