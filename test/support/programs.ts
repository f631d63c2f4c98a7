// Programs that people run, each with what it must leave behind. Each gets an empty directory of a mount.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { ensure } from './loop-mount.ts';

/** More of everything, for an hour in which the machine has nothing else to do. */
export const IS_LONG: boolean = process.env['IOMAP_TEST_LONG'] === '1';

/** Longer than any program here takes, milliseconds. */
const PROGRAM_MAX = IS_LONG ? 300_000 : 40_000;
export const TEST_TIMEOUT: number = 2 * PROGRAM_MAX;

const execute = promisify(execFile);
const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };

/** Runs a program in `cwd`. Shape: what it says. Errors: what it says when it fails. */
export async function runProgram(cwd: string, command: string, ...args: string[]): Promise<string> {
  const limits = { timeout: PROGRAM_MAX, killSignal: 'SIGKILL', maxBuffer: 2 ** 26 } as const;
  try {
    const { stdout } = await execute(command, args, { cwd, env, ...limits });
    return stdout;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error(`${command} ${args.join(' ')}: ${(error as Error).message}\n${stdout}\n${stderr}`, { cause: error });
  }
}

/** Runs a script of sh in `cwd`; it ends at the first command that fails. */
export const runShell = (cwd: string, script: string): Promise<string> => runProgram(cwd, 'sh', '-ec', script);

async function isThere(command: string, ...args: string[]): Promise<boolean> {
  return runProgram('/', command, ...args).then(
    () => true,
    () => false,
  );
}

/** What a tree is, to those who look: kinds, modes, owners, sizes, times, targets. */
const LOOK = `find . -printf '%p %y %m %U %G %n %T@ %l ' '(' -type f -printf '%s\\n' -o -printf '\\n' ')' | sort`;
/** The same without sizes and times: to rsync all times of one second are the same. */
const LOOK_TIMELESS = `find . -printf '%p %y %m %U %G %n %l\\n' | sort`;
const CHECKSUMS = 'find . -type f -print0 | sort -z | xargs -0 -r sha256sum';

/**
 * Kinds, modes, owners, links and contents of a tree, line by line: what a mount must show again once it is mounted anew. Without times: what
 * the kernel writes back late is later for the server than for the kernel.
 */
export async function manifestOf(directory: string): Promise<string[]> {
  return `${await runShell(directory, LOOK_TIMELESS)}${await runShell(directory, CHECKSUMS)}`.split('\n');
}

/** The lines of two manifests that differ. */
export function changesOf(before: readonly string[], after: readonly string[]): string[] {
  const [old, now] = [new Set(before), new Set(after)];
  return [
    ...before.filter((line) => !now.has(line)).map((line) => `- ${line}`),
    ...after.filter((line) => !old.has(line)).map((line) => `+ ${line}`),
  ];
}

/** Runs `use` with a tree on the host: the sources of this project, and whatever else a tree may have. */
async function withTree(use: (tree: string) => Promise<void>): Promise<undefined> {
  const tree = mkdtempSync(join(tmpdir(), 'iomap-tree-'));
  try {
    await runProgram(process.cwd(), 'cp', '-a', 'src', tree);
    await runShell(
      tree,
      `mkdir -m 700 other other/empty
       echo secret > other/secret; chmod 600 other/secret; chown 1234:4321 other/secret
       ln other/secret other/second; ln -s ../src other/link; ln -s nowhere other/dangling; mkfifo other/fifo
       truncate -s 10M other/sparse; printf end | dd of=other/sparse bs=1 seek=5000000 conv=notrunc status=none
       printf '#!/bin/sh\\necho run\\n' > 'other/a name with spaces'; chmod 4755 'other/a name with spaces'
       touch -h -d '2001-02-03 04:05:06.789012345' other/link src other/secret; touch -d '1969-12-31 00:00:00.5' other/empty`,
    );
    await use(tree);
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
  return undefined;
}

/** Runs in `directory`. Answers why it cannot, as text. */
export type Program = (directory: string) => Promise<string | undefined>;

/** By what each is: a sentence that says what is true. */
export const PROGRAMS: ReadonlyMap<string, Program> = new Map<string, Program>([
  [
    'git clones this repository, and finds nothing wrong with the clone',
    async (directory) => {
      if (!(await isThere('git', '-C', process.cwd(), 'rev-parse', 'HEAD'))) return 'git is missing, or this is no repository';
      const top = (await runProgram(process.cwd(), 'git', 'rev-parse', '--show-toplevel')).trim();
      const head = await runProgram(top, 'git', 'rev-parse', 'HEAD');
      await runProgram(directory, 'git', 'clone', '--quiet', `file://${top}`, 'clone');
      const clone = join(directory, 'clone');
      assert.equal(await runProgram(clone, 'git', 'rev-parse', 'HEAD'), head);
      await runProgram(clone, 'git', 'fsck', '--full', '--strict');
      assert.equal(await runProgram(clone, 'git', 'status', '--porcelain'), '');
      const git = ['-c', 'user.name=t', '-c', 'user.email=t@example.org'];
      await runProgram(clone, 'git', 'mv', 'package.json', 'moved.json');
      await runProgram(clone, 'git', ...git, 'commit', '--quiet', '-m', 'moved');
      await runProgram(clone, 'git', 'gc', '--quiet', '--prune=now');
      await runProgram(clone, 'git', 'fsck', '--full', '--strict');
      return undefined;
    },
  ],
  [
    'gcc compiles, and what it made runs',
    async (directory) => {
      if (!(await isThere('gcc', '--version'))) return 'gcc is missing';
      mkdirSync(join(directory, 'include'));
      writeFileSync(join(directory, 'include', 'twice.h'), 'int twice(int);\n');
      writeFileSync(join(directory, 'twice.c'), '#include "twice.h"\nint twice(int n) { return 2 * n; }\n');
      writeFileSync(
        join(directory, 'main.c'),
        '#include <stdio.h>\n#include "twice.h"\nint main(void) { printf("%d\\n", twice(21)); return 0; }\n',
      );
      await runShell(
        directory,
        'gcc -O2 -g -Iinclude -c twice.c && ar rcs libtwice.a twice.o && gcc -O2 -g -Iinclude -o main main.c -L. -ltwice',
      );
      await runShell(directory, 'gcc -shared -fPIC -Iinclude -o libshared.so twice.c');
      assert.equal(await runProgram(directory, './main'), '42\n');
      return undefined;
    },
  ],
  [
    'npm installs packages, and what it installed is what it was made of',
    async (directory) => {
      if (!(await isThere('npm', '--version'))) return 'npm is missing';
      // No registry: the packages that this project has installed are packed again, and each finds those that it needs among them.
      const found = PACKAGES.map((name) => resolve('node_modules', name)).filter((path) => existsSync(join(path, 'package.json')));
      if (found.length !== PACKAGES.length) return `not all of ${PACKAGES.join(', ')} are installed here`;
      const quiet = ['--offline', '--ignore-scripts', '--no-audit', '--no-fund', '--cache', join(directory, 'cache')];
      mkdirSync(join(directory, 'packed'));
      await runProgram(directory, 'npm', 'pack', '--silent', ...quiet, '--pack-destination', 'packed', ...found);
      const project = join(directory, 'project');
      mkdirSync(project);
      writeFileSync(join(project, 'package.json'), '{ "name": "project", "version": "1.0.0", "type": "module" }\n');
      const packed = readdirSync(join(directory, 'packed')).map((name) => `../packed/${name}`);
      await runProgram(project, 'npm', 'install', ...quiet, ...packed);
      for (const name of PACKAGES) await runProgram('/', 'diff', '-r', resolve('node_modules', name), join(project, 'node_modules', name));
      const program = `import { minimatch } from 'minimatch'; process.stdout.write(String(minimatch('a/b.ts', '**/*.{js,ts}')));`;
      assert.equal(await runProgram(project, process.execPath, '--input-type=module', '-e', program), 'true');
      await runProgram(project, 'npm', 'ls', '--all');
      await runProgram(project, 'npm', 'ci', ...quiet);
      await runProgram(project, 'npm', 'ls', '--all');
      return undefined;
    },
  ],
  [
    'tar goes there and back with the same bytes',
    (directory) =>
      withTree(async (tree) => {
        mkdirSync(join(directory, 'tree'));
        await runShell(directory, `tar -C '${tree}' -cf all.tar . && tar -C tree -xpf all.tar && tar -C tree -df all.tar`);
        const there = join(directory, 'tree');
        assert.equal(await runShell(there, CHECKSUMS), await runShell(tree, CHECKSUMS));
        const back = mkdtempSync(join(tmpdir(), 'iomap-back-'));
        try {
          await runShell(back, `tar -C '${there}' -cf - . | tar -xpf -`);
          assert.equal(await runShell(back, CHECKSUMS), await runShell(tree, CHECKSUMS));
        } finally {
          rmSync(back, { recursive: true, force: true });
        }
      }),
  ],
  [
    'cp -a copies all there is, diff -r finds no difference, rm -rf leaves nothing',
    (directory) =>
      withTree(async (tree) => {
        await runProgram(directory, 'cp', '-a', tree, 'copy');
        const copy = join(directory, 'copy');
        await runProgram(directory, 'diff', '-r', '--no-dereference', '--exclude=fifo', tree, copy);
        assert.equal(await runShell(copy, LOOK), await runShell(tree, LOOK));
        await runProgram(directory, 'cp', '-a', 'copy', 'second');
        assert.equal(await runShell(join(directory, 'second'), LOOK), await runShell(tree, LOOK));
        await runProgram(directory, 'rm', '-rf', 'copy', 'second');
        assert.deepEqual(readdirSync(directory), []);
      }),
  ],
  [
    'rsync copies a tree with holes, links and attributes, and sees what changed',
    (directory) => {
      const missing = ensure('rsync', 'rsync');
      if (missing !== undefined) return Promise.resolve(missing);
      return withTree(async (tree) => {
        await runProgram(directory, 'rsync', '-aHS', `${tree}/`, 'copy/');
        const copy = join(directory, 'copy');
        assert.equal(await runShell(copy, LOOK_TIMELESS), await runShell(tree, LOOK_TIMELESS));
        await runShell(
          tree,
          `rm -r src/vfs; echo more >> src/index.ts; printf x | dd of=other/sparse bs=1 seek=7000000 conv=notrunc status=none`,
        );
        // By content: what changed within the second has the same size.
        await runProgram(directory, 'rsync', '-aHc', '--delete', '--inplace', '--no-whole-file', `${tree}/`, 'copy/');
        assert.equal(await runShell(copy, LOOK_TIMELESS), await runShell(tree, LOOK_TIMELESS));
        assert.equal(await runShell(copy, CHECKSUMS), await runShell(tree, CHECKSUMS));
        assert.equal(await runProgram(directory, 'rsync', '-aHnc', '--delete', '--itemize-changes', `${tree}/`, 'copy/'), '');
      });
    },
  ],
  ...fioJobs(),
  ['stress-ng finds nothing wrong', stress],
  [
    'sqlite: several writers at once, in both journal modes, with mapped reads',
    async (directory) => {
      if (!(await isThere('python3', '-c', 'import sqlite3'))) return 'python3 with sqlite3 is missing';
      const folder = mkdtempSync(join(tmpdir(), 'iomap-sqlite-'));
      const program = join(folder, 'writers.py');
      writeFileSync(program, WRITERS);
      try {
        for (const mode of ['delete', 'wal']) {
          const said = await runProgram(directory, 'python3', program, `${mode}.db`, mode);
          assert.equal(said, `${mode} 300 ok\n`);
        }
        assert.equal(readFileSync(join(directory, 'wal.db')).toString('latin1', 0, 15), 'SQLite format 3');
      } finally {
        rmSync(folder, { recursive: true });
      }
      return undefined;
    },
  ],
]);

/** Without dependencies outside of the list, and small. */
const PACKAGES = ['minimatch', 'brace-expansion', 'balanced-match', '@types/node', 'undici-types'];

function fioJobs(): [string, Program][] {
  const jobs: [string, string[]][] = [
    ['buffered, random blocks', ['--ioengine=psync', '--rw=randrw', '--bsrange=512-64k', '--fsync=64']],
    ['buffered, several writers', ['--ioengine=psync', '--rw=write', '--bs=128k', '--numjobs=3', '--end_fsync=1']],
    ['mmap', ['--ioengine=mmap', '--rw=randwrite', '--bs=4k', '--numjobs=2']],
    ['O_DIRECT', ['--ioengine=psync', '--direct=1', '--rw=randwrite', '--bsrange=4k-256k', '--numjobs=2']],
    ['O_DIRECT, asynchronous', ['--ioengine=libaio', '--iodepth=16', '--direct=1', '--rw=randrw', '--bs=16k']],
  ];
  const size = IS_LONG ? 128 : 16;
  return jobs.map(([what, args]) => [
    `fio verifies what it wrote: ${what}`,
    async (directory) => {
      const missing = ensure('fio', 'fio');
      if (missing !== undefined) return missing;
      const common = ['--name=job', `--directory=${directory}`, `--size=${size}m`, '--verify=crc32c', '--verify_fatal=1', '--do_verify=1'];
      // A seed of its own, told by fio where it fails, would find more; this one finds the same again.
      await runProgram(directory, 'fio', ...common, '--randrepeat=1', '--group_reporting', ...args);
      return undefined;
    },
  ]);
}

/** Each does something else with files; the first ones run together, all of them in turn where there is time. */
const STRESSORS = 'access chmod dentry fallocate fpunch hdd iomix rename sync-file utime xattr'.split(' ');
const MORE_STRESSORS =
  'chown copy-file dir dirdeep fcntl filename flock fsize fstat getdent inode-flags link lockofd mknod symlink touch'.split(' ');

async function stress(directory: string): Promise<string | undefined> {
  const missing = ensure('stress-ng', 'stress-ng');
  if (missing !== undefined) return missing;
  const limits = ['--hdd-bytes=4m', '--iomix-bytes=4m', '--fallocate-bytes=4m', '--sync-file-bytes=4m'];
  const common = ['--temp-path=.', '--verify', `--timeout=${IS_LONG ? 10 : 3}s`, ...limits];
  const rounds = IS_LONG ? [...STRESSORS, ...MORE_STRESSORS].map((name) => [name]) : [STRESSORS];
  for (const round of rounds) {
    const said = await runProgram(directory, 'stress-ng', ...common, ...round.map((name) => `--${name}=1`));
    assert.doesNotMatch(said, /\bfail:/);
  }
  return undefined;
}

/** Three processes add a hundred rows each; then the file is checked. Prints mode, number of rows, and what the check says. */
const WRITERS = `
import multiprocessing, sqlite3, sys
path, mode = sys.argv[1:3]

def connect():
    db = sqlite3.connect(path, timeout=20, isolation_level=None)
    db.execute('pragma mmap_size = 16777216')
    db.execute('pragma synchronous = normal')
    return db

def work(who):
    db = connect()
    for i in range(100):
        db.execute('begin immediate')
        db.execute('insert into rows values (?, ?, ?)', (who, i, 'x' * (i * 37 % 3000)))
        db.execute('update total set n = n + 1')
        db.execute('commit')

db = connect()
mode = db.execute('pragma journal_mode = ' + mode).fetchone()[0]
db.execute('create table rows (who, i, text)')
db.execute('create index names on rows (text)')
db.execute('create table total (n)')
db.execute('insert into total values (0)')
workers = [multiprocessing.Process(target=work, args=(who,)) for who in range(3)]
for worker in workers: worker.start()
for worker in workers: worker.join()
assert all(worker.exitcode == 0 for worker in workers)
rows = db.execute('select count(*) from rows').fetchone()[0]
assert rows == db.execute('select n from total').fetchone()[0]
print(mode, rows, db.execute('pragma integrity_check').fetchone()[0])
`;

/** Where programs run: a mount, which ends with the judgement of what they left. */
export interface Ground {
  readonly directory: string;
  /** Takes it down, and judges; after a failure it only takes down. */
  end(hasFailed: boolean): Promise<void>;
}

/** One test with all programs below it, on one mount. `ground` is asked when the test runs; text instead is why it cannot run. */
export function runPrograms(title: string, ground: () => Promise<Ground | string>, isWanted: (name: string) => boolean = () => true): void {
  void test(title, async (t) => {
    const found = await ground();
    if (typeof found === 'string') return t.skip(found);
    let hasFailed = true;
    try {
      let count = 0;
      let passed = 0;
      for (const [name, program] of PROGRAMS) {
        if (!isWanted(name)) continue;
        const directory = join(found.directory, `${++count}`);
        mkdirSync(directory);
        await t.test(name, { timeout: TEST_TIMEOUT }, async (t) => {
          const why = await program(directory);
          passed++;
          if (typeof why === 'string') t.skip(why);
        });
      }
      hasFailed = passed < count;
    } finally {
      await found.end(hasFailed);
    }
  });
}
