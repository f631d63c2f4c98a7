import { hasCode } from '../base/fs-error.ts';
import { type MaybePromise, run, type Task, wait } from '../base/task.ts';
import {
  formatAcl,
  type PosixAcl,
  parseAcl,
  parseAclText,
  XATTR_NAME_POSIX_ACL_ACCESS,
  XATTR_NAME_POSIX_ACL_DEFAULT,
} from '../vfs/posix-acl.ts';

/** Which list: the one that decides, or that which a directory gives to what is made in it. */
export interface AclOptions {
  default?: boolean | undefined;
}

/** Where the attributes are. */
export interface AclStore {
  set(name: string, value: Uint8Array): MaybePromise<void>;
  remove(name: string): MaybePromise<void>;
}

function nameOf(options: AclOptions): string {
  return options.default === true ? XATTR_NAME_POSIX_ACL_DEFAULT : XATTR_NAME_POSIX_ACL_ACCESS;
}

/** The list that `get` finds, or undefined. */
export function getAcl(
  options: AclOptions,
  get: (name: string) => MaybePromise<Uint8Array | undefined>,
): MaybePromise<PosixAcl | undefined> {
  return run(
    (function* (): Task<PosixAcl | undefined> {
      const value = yield* wait(get(nameOf(options)));
      return value === undefined ? undefined : parseAcl(value, 'getxattr');
    })(),
  );
}

/** Sets a list, also from its text, or removes it. Removing what is not there succeeds. */
export function setAcl(acl: PosixAcl | string | undefined, options: AclOptions, store: AclStore): MaybePromise<void> {
  const name = nameOf(options);
  if (acl !== undefined) return store.set(name, formatAcl(typeof acl === 'string' ? parseAclText(acl) : acl));
  return run(
    (function* (): Task<void> {
      try {
        yield* wait(store.remove(name));
      } catch (error) {
        if (!hasCode(error, 'ENODATA')) throw error;
      }
    })(),
  );
}
