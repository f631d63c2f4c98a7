// Every command with its operands and options, once. Parsing, usage texts, the man page and completion are made from these rows.

/** What a value or operand names, for completion. */
export type Kind = 'source' | 'directory' | 'file' | 'mountpoint' | 'program' | 'words' | 'shell' | 'text';

export interface OptionRow {
  readonly name: string;
  readonly short?: string;
  /** Absent: the option has no value. */
  readonly value?: { readonly name: string; readonly kind: Kind };
  /** May be given more than once. */
  readonly repeats?: true;
  readonly meaning: string;
  /** What holds without it, where `meaning` does not say so. */
  readonly default?: string;
}

export interface OperandRow {
  readonly name: string;
  readonly kind: Kind;
  readonly meaning: string;
  /** What it may be, where that is a fixed set. */
  readonly choices?: readonly string[];
}

export interface CommandRow {
  readonly name: string;
  /** One line, for the list of commands. */
  readonly summary: string;
  readonly operands: readonly OperandRow[];
  /** What follows `--`: a program and its arguments, at least one word. */
  readonly program?: OperandRow;
  readonly options: readonly OptionRow[];
  /** Paragraphs. */
  readonly details: readonly string[];
}

const HELP: OptionRow = { name: 'help', short: 'h', meaning: 'print what the command does and takes' };
const JSON_OUTPUT: OptionRow = { name: 'json', meaning: 'print the same facts as one JSON value; an error too, beside its text on stderr' };
const MOUNT_WORDS: OptionRow = {
  name: 'options',
  short: 'o',
  value: { name: 'WORD,...', kind: 'words' },
  repeats: true,
  meaning: 'mount options, listed below',
};
const SOURCE_ARGS: OptionRow = {
  name: 'args',
  value: { name: 'JSON', kind: 'text' },
  meaning: 'what the function of a module source is called with',
  default: 'nothing',
};
const SOURCE: OperandRow = { name: 'SOURCE', kind: 'source', meaning: 'what makes the filesystem, see below' };

/** Options of `iomap` itself, without a command. */
export const GLOBAL_OPTIONS: readonly OptionRow[] = [
  HELP,
  { name: 'version', short: 'V', meaning: 'print the version' },
  { name: 'json', meaning: 'print the version as JSON' },
];

export const COMMANDS: readonly CommandRow[] = [
  {
    name: 'mount',
    summary: 'mount a filesystem on a directory',
    operands: [SOURCE, { name: 'DIR', kind: 'directory', meaning: 'where to mount it' }],
    options: [
      MOUNT_WORDS,
      SOURCE_ARGS,
      {
        name: 'foreground',
        short: 'f',
        meaning: 'serve in this process until SIGINT, SIGTERM or SIGHUP, which unmount',
        default: 'in the background',
      },
      { name: 'pidfile', value: { name: 'FILE', kind: 'file' }, meaning: 'holds the number of the serving process while it serves' },
      { name: 'replace-stale', meaning: 'unmount a mount of iomap on DIR first, if its process is gone' },
      {
        name: 'log',
        value: { name: 'FILE', kind: 'file' },
        meaning: 'where a process in the background appends what it has to say',
        default: 'nowhere',
      },
      {
        name: 'metrics',
        value: { name: 'ADDRESS', kind: 'text' },
        meaning: 'serve counts and times for Prometheus at unix:/PATH, 127.0.0.1:PORT or [::1]:PORT; port 0 is any',
        default: 'nowhere',
      },
      JSON_OUTPUT,
      HELP,
    ],
    details: [
      'Returns once the kernel and the filesystem have agreed (FUSE INIT), with the mount working; or fails with the error of the serving ' +
        'process and leaves nothing mounted. The serving process has / as its working directory in the background.',
      'A signal unmounts. If the mount is in use, it is taken out of the tree and served until its last user has gone; a second signal ' +
        'ends it at once, and its users get ENOTCONN.',
    ],
  },
  {
    name: 'umount',
    summary: 'unmount a filesystem that iomap mounted',
    operands: [{ name: 'DIR', kind: 'mountpoint', meaning: 'where it is mounted' }],
    options: [{ name: 'lazy', short: 'l', meaning: 'take it out of the tree now, and let it end with its last user' }, JSON_OUTPUT, HELP],
    details: [
      'Waits, however long that takes, until the serving process has written everything and ended: an image is complete and durable then. ' +
        'An error of that is one of umount. What is mounted on DIR by others is refused and not touched.',
    ],
  },
  {
    name: 'exec',
    summary: 'run a program with a filesystem mounted for it',
    operands: [SOURCE],
    program: { name: 'COMMAND', kind: 'program', meaning: 'the program and its arguments' },
    options: [MOUNT_WORDS, SOURCE_ARGS, HELP],
    details: [
      'Mounts on a temporary directory, runs COMMAND, unmounts and removes the directory. COMMAND finds the directory in the environment ' +
        'variable IOMAP_DIR, and in place of each argument {} and of {} at the start of an argument {}/PATH.',
      'The exit status is that of COMMAND; 128 and the number of the signal that ended it; 126 if it cannot be started, 127 if it is not ' +
        'there. SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 are passed on to it, and SIGINT and SIGQUIT unless they come from the terminal, which ' +
        'sends them itself.',
      'If COMMAND leaves something running that uses the mount, it is served until that has gone, or until a signal.',
    ],
  },
  {
    name: 'status',
    summary: 'list the mounts of iomap, and whether they answer',
    operands: [],
    options: [JSON_OUTPUT, HELP],
    details: [
      'For each mount: the directory, the source, the serving process, and one of "answers", "stale" (its process is gone: ENOTCONN; ' +
        'iomap umount takes it away), "silent" (no answer within two seconds) or the error it gives. Below it the requests ' +
        'that wait for an answer: operation, path, process, age. The serving process prints the same to its log at SIGUSR1.',
    ],
  },
  {
    name: 'doctor',
    summary: 'say whether mounting works here, and why not',
    operands: [],
    options: [JSON_OUTPUT, HELP],
    details: ['Tries a mount of an empty filesystem, where it may. The exit status is 0 if that works, and 1 otherwise.'],
  },
  {
    name: 'completion',
    summary: 'print the completion script of a shell',
    operands: [{ name: 'SHELL', kind: 'shell', meaning: 'the shell', choices: ['bash'] }],
    options: [HELP],
    details: ['For this shell session: source <(iomap completion bash)'],
  },
  { name: 'man', summary: 'print the man page, as roff', operands: [], options: [HELP], details: ['To read it: iomap man | man -l -'] },
];

/** What a SOURCE may be. */
export const SOURCES: readonly { readonly form: string; readonly meaning: string }[] = [
  {
    form: 'IMAGE[:partN]',
    meaning:
      'a regular file or block device with an ext2, ext3 or ext4 filesystem, in itself or in partition N; locked while it is mounted',
  },
  {
    form: 'mem:[size=BYTES,inodes=COUNT]',
    meaning: 'a filesystem in memory, empty, gone when unmounted; sizes may end in k, m, g or t; by default 16g and 16777216',
  },
  {
    form: 'mirror:DIR',
    meaning: 'a directory of the host, as it is; what others change in it is seen at once; what is mounted below it is not entered',
  },
  {
    form: 'MODULE',
    meaning: 'path or file: URL of a module whose default export is a function that makes a FileSystem',
  },
];

export const EXIT_STATUS: readonly { readonly status: string; readonly meaning: string }[] = [
  { status: '0', meaning: 'done' },
  { status: '1', meaning: 'failed; the reason is on stderr' },
  { status: '2', meaning: 'not a command: an unknown option or word, or an operand too few or too many' },
];

export const ENVIRONMENT: readonly { readonly name: string; readonly meaning: string }[] = [
  {
    name: 'IOMAP_RUNTIME_DIR',
    meaning:
      'where serving processes note what they serve, for iomap status; by default iomap below /run for root, and below XDG_RUNTIME_DIR',
  },
  { name: 'IOMAP_DIR', meaning: 'set by iomap exec: the directory of the mount' },
];

export function commandOf(name: string): CommandRow | undefined {
  return COMMANDS.find((command) => command.name === name);
}
