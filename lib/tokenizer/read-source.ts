/** Reads the tokenizer of a model folder or GGUF file. */
import { readGgufHeader } from '../formats/gguf.js'
import { tokenizerSourceFromFolder } from './folder.js'
import { tokenizerSourceFromGguf } from './gguf.js'
import type { TokenizerOfModel, TokenizerSource } from './source.js'

/** Reads the tokenizer of a model. Throws the errors of the readers for folders and GGUF files. */
export async function readTokenizerSource({ kind, path }: TokenizerOfModel): Promise<TokenizerSource> {
  if (kind === 'folder') return tokenizerSourceFromFolder(path)
  const { metadata } = await readGgufHeader(path)
  return tokenizerSourceFromGguf(metadata, path)
}
