/** Types of mutate.mjs for tests. */
export interface Random {
  next(): number
  below(count: number): number
  pick<T>(list: readonly T[]): T
}
export function randomFrom(seed: number): Random
export function mutateJson(text: string, random: Random): Buffer
export function mutateBytes(whole: Buffer, random: Random, most?: number): Buffer
export function mutateSafetensors(whole: Buffer, random: Random): Buffer
export function mutateParquet(whole: Buffer, random: Random): Buffer
