/**
 * Where a model's tokenizer comes from. It is read when it is needed and where it is needed (the text worker reads its
 * own): vocabularies are large, and what JavaScript holds of them counts as memory of a run.
 */
import { readGgufHeader } from '../formats/gguf.js'
import { tokenizerSourceFromGguf } from './gguf.js'
import { type TokenizerSource, tokenizerSourceFromFolder } from './tokenizer.js'

/** A model folder or GGUF file, by its path. */
export interface TokenizerOfModel {
  kind: 'folder' | 'gguf'
  path: string
}

/** Reads the tokenizer of a model. Errors as the readers of folders and GGUF files. */
export async function readTokenizerSource({ kind, path }: TokenizerOfModel): Promise<TokenizerSource> {
  if (kind === 'folder') return tokenizerSourceFromFolder(path)
  const { metadata } = await readGgufHeader(path)
  return tokenizerSourceFromGguf(metadata, path)
}
