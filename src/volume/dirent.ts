import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK } from '../vfs/uapi.ts';

/** One name of a directory, as node:fs shows it. */
export class Dirent<Name extends string | Uint8Array = string> {
  readonly name: Name;
  /** The directory, as the caller named it. */
  readonly parentPath: string;
  readonly #type: number;

  /** `type` are file type bits of a mode, 0 if unknown. A parentPath of bytes is kept as such, which Node does and does not say. */
  constructor(name: Name, parentPath: string | Uint8Array, type: number) {
    this.name = name;
    this.parentPath = parentPath as string;
    this.#type = type;
  }

  /** As Node called parentPath before version 24. */
  get path(): string {
    return this.parentPath;
  }

  isFile(): boolean {
    return this.#type === S_IFREG;
  }

  isDirectory(): boolean {
    return this.#type === S_IFDIR;
  }

  isSymbolicLink(): boolean {
    return this.#type === S_IFLNK;
  }

  isFIFO(): boolean {
    return this.#type === S_IFIFO;
  }

  isSocket(): boolean {
    return this.#type === S_IFSOCK;
  }

  isBlockDevice(): boolean {
    return this.#type === S_IFBLK;
  }

  isCharacterDevice(): boolean {
    return this.#type === S_IFCHR;
  }
}
