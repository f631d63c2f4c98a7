// Paths as text, without a filesystem: what node:path does on POSIX, for the volume's own names. A volume has one working directory, its
// root.

/** Without empty components, '.' and what '..' takes back. '' becomes '.'; a slash at the end is kept. */
export function normalize(path: string): string {
  const isAbsolute = path.startsWith('/');
  const kept: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part !== '..') kept.push(part);
    else if (kept.length > 0 && kept.at(-1) !== '..') kept.pop();
    else if (!isAbsolute) kept.push('..');
  }
  const text = kept.join('/');
  const end = path.endsWith('/') && text !== '' ? '/' : '';
  return isAbsolute ? `/${text}${end}` : text === '' ? (path.endsWith('/') ? './' : '.') : text + end;
}

/** Two paths behind each other, normalized. */
export function join(base: string, path: string): string {
  if (base === '') return normalize(path);
  return path === '' ? normalize(base) : normalize(`${base}/${path}`);
}

/** A name in a directory; `dir` as it is. */
export function child(dir: string, name: string): string {
  return dir.endsWith('/') || dir === '' ? dir + name : `${dir}/${name}`;
}

/** Absolute and normalized, without a slash at the end; a relative path begins at `base`. */
export function resolve(base: string, path = ''): string {
  const full = normalize(path.startsWith('/') ? path : `/${base}/${path}`);
  return full.length > 1 && full.endsWith('/') ? full.slice(0, -1) : full;
}

/** Slashes at the end do not count. */
export function dirname(path: string): string {
  const trimmed = trimSlashes(path);
  const slash = trimmed.lastIndexOf('/');
  if (slash < 0) return path.startsWith('/') ? '/' : '.';
  return trimSlashes(trimmed.slice(0, slash)) || '/';
}

/** Slashes at the end do not count. */
export function basename(path: string): string {
  const trimmed = trimSlashes(path);
  return trimmed.slice(trimmed.lastIndexOf('/') + 1);
}

function trimSlashes(path: string): string {
  let end = path.length;
  while (end > 0 && path[end - 1] === '/') end--;
  return path.slice(0, end);
}
