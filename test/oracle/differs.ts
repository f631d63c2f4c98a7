// Where a Volume answers otherwise than the Node that runs it: because Node's versions do not agree, or by design. Short, and by name; a
// name that is listed and agrees after all fails the test.

export interface Difference {
  /** Full names of the cases, "form: title". */
  readonly cases: RegExp;
  readonly reason: string;
}

export interface VersionDifference extends Difference {
  /** The Node that a Volume agrees with: the oldest that we run on, or the current one. */
  readonly follows: 20 | 26;
}

export const versionDifferences: readonly VersionDifference[] = [
  {
    cases: /: (?:glob: .*|mkdtempDisposable: .*|Dir: Symbol.asyncDispose)$/,
    follows: 26,
    reason: 'Node 20 does not have it',
  },
  {
    cases: /^promises: (?:stat|lstat|FileHandle stat): what is no options$/,
    follows: 26,
    reason: 'Node 20 does not check the options',
  },
  {
    cases: /^(?:promises: stat: missing|.*: stat: through a file), without an error$/,
    follows: 26,
    reason: 'in Node 20 only statSync knows throwIfNoEntry, and only for ENOENT',
  },
  {
    cases: /^promises: readFile: of a closed handle$/,
    follows: 26,
    reason: 'Node 20 goes on with the number -1',
  },
  {
    cases: /^sync: truncate: what is no path$/,
    follows: 26,
    reason: 'Node 20 takes every number for a descriptor',
  },
  {
    cases: /: statfs: (?:types of its members|bigint|through a link)$/,
    follows: 26,
    reason: 'Node 20 has no frsize',
  },
  {
    cases: /^promises: readFile: (?:dir.*|flag '(?:w|wx|xw|a|ax|xa|as|sa)'|flag as a number)$/,
    follows: 26,
    reason: 'Node 20 leaves the path out when it is the read that fails',
  },
  {
    cases: /^promises: stranger: (?:open|sticky|listed|mine): read it$/,
    follows: 26,
    reason: 'Node 20 leaves the path out when it is the read that fails',
  },
  {
    cases: /: stranger: (?:closed|listed|passed|mine, but closed): copy the tree$/,
    follows: 20,
    reason: 'cp of Node 26 copies trees natively where it can, with errors of another form',
  },
  {
    cases: /^sync: stranger: .*: remove it$/,
    follows: 20,
    reason: 'rmSync of Node 26 is native, with errors of another form',
  },
  {
    cases: /: rmdir: recursive.*$/,
    follows: 26,
    reason: 'Node 20 still removes trees',
  },
  {
    cases: /: symlink: what is no type$/,
    follows: 26,
    reason: 'Node 20 has a code of its own for it, and takes types that are no strings',
  },
  {
    cases: /^promises: read: a position (?:that is a .*|below -1|of 2.*)$/,
    follows: 26,
    reason: 'Node 20 takes every position that is no number for the current one',
  },
  {
    cases: /^promises: writeFile, flag: what is no value of it$/,
    follows: 20,
    reason: 'Node 26 calls the argument options.flag in this one function',
  },
  {
    cases: /: l?utimes: a Date that is none$/,
    follows: 20,
    reason: 'Node 26 stores a time that nobody gave',
  },
  {
    cases: /^promises: watch: what is no option$/,
    follows: 26,
    reason: 'Node 20 swaps the words of one message, and has no maxQueue and overflow',
  },
  {
    cases: /^sync: readlink: (?:what is no path|URLs that are no path)$/,
    follows: 26,
    reason: 'Node 20 calls the argument oldPath',
  },
  {
    cases: /: cp: links inside, a second time$/,
    follows: 26,
    reason: 'Node 20 refuses to copy a link over the one that it made',
  },
  {
    cases: /: cp: merges directories, errorOnExist$/,
    follows: 26,
    reason: 'Node 20 names the first file that is there, Node 26 the directory',
  },
  {
    cases: /: readdir: options: recursive and (?:withFileTypes|buffer)$/,
    follows: 26,
    reason: 'Node 20 does not follow links where it has the types, and fails on Buffers',
  },
];

export const differences: readonly Difference[] = [
  {
    cases: /^promises: realpath: path of 5000 bytes$/,
    reason: 'a path has at most 4095 bytes everywhere; the C library takes longer ones apart here, and here only',
  },
  {
    cases: /: cp: path as a Buffer$/,
    reason: 'cp takes bytes for a path as every other function does',
  },
  {
    cases: /^sync: realpath: (?:what is no path|empty path)$/,
    reason: 'realpathSync of Node makes text of whatever it gets, and begins in the directory of the process',
  },
  {
    cases: /^sync: opendir: (?:empty path|name of 256 bytes|path .*|what is no file)$/,
    reason: 'opendirSync of Node leaves the path out of its errors',
  },
  {
    cases: /^sync: stranger: (?:closed|passed|mine, but closed|secret|public|my file|my file, but closed): open it as a directory$/,
    reason: 'opendirSync of Node leaves the path out of its errors',
  },
  {
    cases: /^sync: (?:mkdir: recursive below each name|stranger: passed: make a path in it)$/,
    reason: 'mkdirSync of Node names the whole path in its errors, mkdir the part that could not be made',
  },
  {
    cases: /^promises: readlink: (?:what is no path|URLs that are no path)$/,
    reason: 'readlink of Node calls the argument oldPath, readlinkSync path',
  },
  {
    cases: /^promises: lstat: missing, without an error$/,
    reason: 'lstat knows throwIfNoEntry, as stat, statSync and lstatSync do',
  },
  {
    cases: /^sync: l?stat: what is no options$/,
    reason: 'statSync of Node does not look at what its options are',
  },
  {
    cases: /: readdir: recursive, with a link that leads back up$/,
    reason: 'Node goes round until the path has too many links',
  },
  {
    cases: /^promises: readdir: what is no recursive$/,
    reason: 'readdir of Node takes anything for a boolean, readdirSync does not',
  },
  {
    cases: /^promises: watch: names as bytes$/,
    reason: 'Node refuses the encoding that it documents',
  },
];
