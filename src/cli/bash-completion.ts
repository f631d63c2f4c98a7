import { IMAGE_WORDS } from './image-words.ts';
import { MOUNT_WORDS } from './mount-words.ts';
import { COMMANDS, type CommandRow, GLOBAL_OPTIONS, type Kind, type OptionRow } from './option-table.ts';

/** How bash finds what a value or operand may be; `$cur` is what is typed of it. */
const CANDIDATES: Readonly<Record<Kind, string>> = {
  source: `compgen -W 'mem: mirror:' -- "$cur"; compgen -f -- "$cur"`,
  directory: 'compgen -d -- "$cur"',
  file: 'compgen -f -- "$cur"',
  mountpoint: `compgen -W "$(awk '$3 == "fuse.iomap" { print $2 }' /proc/self/mounts 2>/dev/null)" -- "$cur"`,
  program: 'compgen -c -- "$cur"',
  // The last of the words between commas; those before it stay.
  words: `compgen -P "\${cur%"\${cur##*,}"}" -W '${[...MOUNT_WORDS, ...IMAGE_WORDS].map(({ name, value }) => (value === undefined ? name : `${name}=`)).join(' ')}' -- "\${cur##*,}"`,
  shell: 'compgen -W bash -- "$cur"',
  text: ':',
};

/** What `iomap completion bash` prints. */
export function bashCompletion(): string {
  return `# Completion of iomap for bash: source <(iomap completion bash)
_iomap() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} command= word operands=0 program=0 i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    # bash takes mirror:/dir and fsname=name apart.
    [[ $word == [:=] || \${COMP_WORDS[i-1]} == [:=] ]] && continue
    if [[ -z $command ]]; then
      [[ $word == -* ]] || command=$word
    elif [[ $word == -- ]]; then
      program=$((COMP_CWORD - i))
      break
    else
      case $command:$word in
${COMMANDS.flatMap(valueOptions).join('')}        *:-*) ;;
        *) operands=$((operands + 1)) ;;
      esac
    fi
  done
  [[ $cur == [:=] ]] && cur=
  mapfile -t COMPREPLY < <(
    case $command:$prev in
${COMMANDS.flatMap(valueCandidates).join('')}    esac
    if [[ $program == 1 ]]; then ${CANDIDATES.program}; exit; fi
    if [[ $program != 0 ]]; then ${CANDIDATES.file}; exit; fi
    case $command in
      '') ${wordList([...COMMANDS.map(({ name }) => name), ...names(GLOBAL_OPTIONS)])} ;;
${COMMANDS.map(operandCandidates).join('')}    esac
  )
}
complete -o filenames -o nosort -F _iomap iomap
`;
}

/** Words after which a value follows, which is no operand. */
function valueOptions({ name, options }: CommandRow): string[] {
  const patterns = options
    .filter(({ value }) => value !== undefined)
    .flatMap((option) => spellings(option).map((word) => `${name}:${word}`));
  return patterns.length === 0 ? [] : [`        ${patterns.join(' | ')}) i=$((i + 1)) ;;\n`];
}

function valueCandidates({ name, options }: CommandRow): string[] {
  return options.flatMap((option) => {
    const pattern = spellings(option)
      .map((word) => `${name}:${word}`)
      .join(' | ');
    return option.value === undefined ? [] : [`      ${pattern}) ${CANDIDATES[option.value.kind]}; exit ;;\n`];
  });
}

function operandCandidates({ name, operands, program, options }: CommandRow): string {
  const words = wordList([...names(options), ...(program === undefined ? [] : ['--'])]);
  const cases = operands.map(({ kind }, i) => `        ${i}) ${CANDIDATES[kind]} ;;\n`);
  const byPlace = cases.length === 0 ? '' : `\n      case $operands in\n${cases.join('')}      esac`;
  // Options once a dash is typed, and where nothing else is left to type.
  return `    ${name})
      if [[ $cur == -* || $operands -ge ${operands.length} ]]; then ${words}; exit; fi${byPlace}
      ;;
`;
}

function names(options: readonly OptionRow[]): string[] {
  return options.map(({ name }) => `--${name}`);
}

function spellings({ name, short }: OptionRow): string[] {
  return [`--${name}`, ...(short === undefined ? [] : [`-${short}`])];
}

function wordList(words: readonly string[]): string {
  return `compgen -W '${words.join(' ')}' -- "$cur"`;
}
