# Completions of fish for playcounts. `playcounts completions fish` prints this; put it into
# /usr/share/fish/vendor_completions.d/playcounts.fish, or `playcounts completions fish | source`.

function __playcounts_candidates
    set -l before (commandline -opc)
    set -l last (commandline -ct)
    set -l program $before[1]
    set -e before[1]
    set -l answer ($program completions candidates $before "$last" 2>/dev/null)
    or return
    set -l kind $answer[1]
    set -e answer[1]
    printf '%s\n' $answer
    switch $kind
        case files
            __fish_complete_path "$last"
        case directories
            __fish_complete_directories "$last"
    end
end

complete -c playcounts -f -a '(__playcounts_candidates)'
