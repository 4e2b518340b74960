/** Recognizes Python pickles by name and rejects them. */
import { UnsupportedError } from '../core/errors.js'

/** True if a file is a pickle, by its name. */
export function isPickle(name: string): boolean {
  return /\.(bin|pt|pth|ckpt|pkl)$/i.test(name)
}

/** @param path a path, or another description of the location */
export function pickleRefused(path: string): UnsupportedError {
  return new UnsupportedError(
    `${path} is a pickle, which can run code when it is read, and is never opened; ` +
      'convert it in Python with model.save_pretrained(folder, safe_serialization=True)',
    { path },
  )
}
