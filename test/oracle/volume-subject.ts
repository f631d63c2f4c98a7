import process from 'node:process';
import { MemFs } from '../../src/fs/memfs/mem-fs.ts';
import { Volume } from '../../src/volume/volume.ts';
import { asPromises } from './host-subject.ts';
import type { Form, Subject } from './scene.ts';

/** A volume over a fresh MemFs, whose caller is the user that runs the tests, or another. */
export async function volumeSubject(form: Form, user?: number): Promise<Subject> {
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, groups: process.getgroups?.() ?? [], umask: process.umask() };
  const root = '/oracle';
  const whole = Volume.create(new MemFs());
  await whole.mkdir(root);
  await whole.chown(root, own.uid, own.gid);
  const volume = whole.as(own);
  const asked = user === undefined ? volume : whole.as({ ...own, uid: user, gid: user });
  return { api: form === 'sync' ? asPromises(asked.sync) : asked, root, sync: volume.sync, close: () => whole.close() };
}
