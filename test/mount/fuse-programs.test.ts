// Programs that people run, on a mount of memfs.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { promisify } from 'node:util';
import { whyNoMount, withMount } from '../support/fuse-mount.ts';
import { ensure } from '../support/loop-mount.ts';

/** Longer than any program here takes, milliseconds. */
const PROGRAM_MAX = 25_000;
const TEST = { timeout: 45_000 };

const execute = promisify(execFile);

/** Runs a program in `cwd`. Shape: what it says. Errors: what it says when it fails. */
async function run(cwd: string, command: string, ...args: string[]): Promise<string> {
  const limits = { timeout: PROGRAM_MAX, killSignal: 'SIGKILL', maxBuffer: 2 ** 26 } as const;
  const { stdout } = await execute(command, args, { cwd, env: { ...process.env, LC_ALL: 'C' }, ...limits });
  return stdout;
}

const shell = (cwd: string, script: string): Promise<string> => run(cwd, 'sh', '-ec', script);

async function isThere(command: string, ...args: string[]): Promise<boolean> {
  return run('/', command, ...args).then(
    () => true,
    () => false,
  );
}

/** What a tree is, to those who look: kinds, modes, owners, sizes, times, targets. */
const LOOK = `find . -printf '%p %y %m %U %G %n %T@ %l ' '(' -type f -printf '%s\\n' -o -printf '\\n' ')' | sort`;
const CHECKSUMS = 'find . -type f -print0 | sort -z | xargs -0 sha256sum';

/** Runs `use` with a tree on the host: the sources of this project, and whatever else a tree may have. */
async function withTree(use: (tree: string) => Promise<void>): Promise<void> {
  const tree = mkdtempSync(join(tmpdir(), 'iomap-tree-'));
  try {
    await run(process.cwd(), 'cp', '-a', 'src', tree);
    await shell(
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
}

suite('programs on a mount of memfs', { skip: whyNoMount() }, () => {
  test('git clones this repository, and finds nothing wrong with the clone', TEST, async (t) => {
    if (!(await isThere('git', '-C', process.cwd(), 'rev-parse', 'HEAD'))) return t.skip('git is missing, or this is no repository');
    const top = (await run(process.cwd(), 'git', 'rev-parse', '--show-toplevel')).trim();
    const head = await run(top, 'git', 'rev-parse', 'HEAD');
    await withMount(async (directory) => {
      await run(directory, 'git', 'clone', '--quiet', `file://${top}`, 'clone');
      const clone = join(directory, 'clone');
      assert.equal(await run(clone, 'git', 'rev-parse', 'HEAD'), head);
      await run(clone, 'git', 'fsck', '--full', '--strict');
      assert.equal(await run(clone, 'git', 'status', '--porcelain'), '');
      const git = ['-c', 'user.name=t', '-c', 'user.email=t@example.org'];
      await run(clone, 'git', 'mv', 'package.json', 'moved.json');
      await run(clone, 'git', ...git, 'commit', '--quiet', '-m', 'moved');
      await run(clone, 'git', 'gc', '--quiet', '--prune=now');
      await run(clone, 'git', 'fsck', '--full', '--strict');
    });
  });

  test('gcc compiles, and what it made runs', TEST, async (t) => {
    if (!(await isThere('gcc', '--version'))) return t.skip('gcc is missing');
    await withMount(async (directory) => {
      mkdirSync(join(directory, 'include'));
      writeFileSync(join(directory, 'include', 'twice.h'), 'int twice(int);\n');
      writeFileSync(join(directory, 'twice.c'), '#include "twice.h"\nint twice(int n) { return 2 * n; }\n');
      writeFileSync(
        join(directory, 'main.c'),
        '#include <stdio.h>\n#include "twice.h"\nint main(void) { printf("%d\\n", twice(21)); return 0; }\n',
      );
      await shell(
        directory,
        'gcc -O2 -g -Iinclude -c twice.c && ar rcs libtwice.a twice.o && gcc -O2 -g -Iinclude -o main main.c -L. -ltwice',
      );
      await shell(directory, 'gcc -shared -fPIC -Iinclude -o libshared.so twice.c');
      assert.equal(await run(directory, './main'), '42\n');
    });
  });

  test('tar goes there and back with the same bytes', TEST, () =>
    withTree((tree) =>
      withMount(async (directory) => {
        mkdirSync(join(directory, 'tree'));
        await shell(directory, `tar -C '${tree}' -cf all.tar . && tar -C tree -xpf all.tar && tar -C tree -df all.tar`);
        const there = join(directory, 'tree');
        assert.equal(await shell(there, CHECKSUMS), await shell(tree, CHECKSUMS));
        const back = mkdtempSync(join(tmpdir(), 'iomap-back-'));
        try {
          await shell(back, `tar -C '${there}' -cf - . | tar -xpf -`);
          assert.equal(await shell(back, CHECKSUMS), await shell(tree, CHECKSUMS));
        } finally {
          rmSync(back, { recursive: true, force: true });
        }
      }),
    ),
  );

  test('cp -a copies all there is, diff -r finds no difference, rm -rf leaves nothing', TEST, () =>
    withTree((tree) =>
      withMount(async (directory) => {
        await run(directory, 'cp', '-a', tree, 'copy');
        const copy = join(directory, 'copy');
        await run(directory, 'diff', '-r', '--no-dereference', '--exclude=fifo', tree, copy);
        assert.equal(await shell(copy, LOOK), await shell(tree, LOOK));
        await run(directory, 'cp', '-a', 'copy', 'second');
        assert.equal(await shell(join(directory, 'second'), LOOK), await shell(tree, LOOK));
        await run(directory, 'rm', '-rf', 'copy', 'second');
        assert.deepEqual(readdirSync(directory), []);
      }),
    ),
  );

  const jobs: [string, string[]][] = [
    ['buffered, random blocks', ['--ioengine=psync', '--rw=randrw', '--bsrange=512-64k', '--fsync=64']],
    ['buffered, several writers', ['--ioengine=psync', '--rw=write', '--bs=128k', '--numjobs=3', '--end_fsync=1']],
    ['mmap', ['--ioengine=mmap', '--rw=randwrite', '--bs=4k']],
    ['O_DIRECT', ['--ioengine=psync', '--direct=1', '--rw=randwrite', '--bsrange=4k-256k', '--numjobs=2']],
    ['O_DIRECT, asynchronous', ['--ioengine=libaio', '--iodepth=16', '--direct=1', '--rw=randrw', '--bs=16k']],
  ];
  for (const [what, args] of jobs) {
    test(`fio verifies what it wrote: ${what}`, TEST, (t) => {
      const missing = ensure('fio', 'fio');
      if (missing !== undefined) return t.skip(missing);
      return withMount(async (directory) => {
        const common = ['--name=job', `--directory=${directory}`, '--size=16m', '--verify=crc32c', '--verify_fatal=1', '--do_verify=1'];
        // A seed of its own, told by fio where it fails, would find more; this one finds the same again.
        await run(directory, 'fio', ...common, '--randrepeat=1', '--group_reporting', ...args);
      });
    });
  }

  test('sqlite: several writers at once, in both journal modes, with mapped reads', TEST, async (t) => {
    if (!(await isThere('python3', '-c', 'import sqlite3'))) return t.skip('python3 with sqlite3 is missing');
    const program = join(mkdtempSync(join(tmpdir(), 'iomap-sqlite-')), 'writers.py');
    writeFileSync(program, WRITERS);
    try {
      await withMount(async (directory) => {
        for (const mode of ['delete', 'wal']) {
          const said = await run(directory, 'python3', program, `${mode}.db`, mode);
          assert.equal(said, `${mode} 300 ok\n`);
        }
        assert.equal(readFileSync(join(directory, 'wal.db')).toString('latin1', 0, 15), 'SQLite format 3');
      });
    } finally {
      rmSync(join(program, '..'), { recursive: true });
    }
  });
});

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
