import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import type { Outcome } from './recorder.ts';
import type { Form, Subject, Untyped } from './scene.ts';

/** The node:fs/promises shape of a synchronous API: `stat` calls `statSync`, and what that throws is a rejection. */
export function asPromises(sync: Untyped): Untyped {
  return new Proxy(
    {},
    {
      get: (_, name) => (name === 'constants' ? sync.constants : async (...args: unknown[]) => sync[`${String(name)}Sync`](...args)),
    },
  );
}

/** Node itself, in a fresh directory of the host, in memory where there is some for that. As another user only if the process is root. */
export function hostSubject(form: Form, user?: number): Subject {
  const parent = fs.realpathSync(fs.mkdtempSync(join(fs.existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'iomap-oracle-')));
  const root = join(parent, 'oracle');
  fs.chmodSync(parent, 0o755);
  fs.mkdirSync(root);

  const { createReadStream, createWriteStream } = fs;
  return {
    // cpSync is another program than cp since Node 22, native, with other errors; some calls end the process. A Volume's is its cp.
    api: form === 'sync' ? asPromises({ ...fs, cpSync: fs.promises.cp }) : { ...fs.promises, createReadStream, createWriteStream },
    root,
    sync: fs,
    ...(user === undefined ? {} : { as: (run: () => Promise<Outcome>) => asUser(user, run) }),
    close: async () => fs.rmSync(parent, { recursive: true }),
  };
}

/** Effective ids are those of all threads of the process, so nothing else may run meanwhile. */
async function asUser(user: number, run: () => Promise<Outcome>): Promise<Outcome> {
  process.setegid?.(user);
  process.seteuid?.(user);
  try {
    return await run();
  } finally {
    process.seteuid?.(0);
    process.setegid?.(0);
  }
}
