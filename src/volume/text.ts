import { nameBytes, nameText } from '../vfs/name.ts';
import { decodeText, toBuffer } from './platform.ts';

/** A name (name.ts) as the `encoding` option of node:fs asks for it: text, or with 'buffer' its bytes. */
export function encodeName(name: string, encoding?: string | null): string | Uint8Array {
  if (!encoding || encoding === 'utf8' || encoding === 'utf-8') return nameText(name);
  const bytes = nameBytes(name);
  return encoding === 'buffer' ? toBuffer(bytes) : decodeText(bytes, encoding);
}
