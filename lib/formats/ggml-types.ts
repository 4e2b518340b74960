/**
 * Element types of GGUF tensors: ggml's ids, names, and block sizes. All types are listed, so that any file can be
 * described and its layout checked, and unsupported types are rejected by name.
 */

export interface GgmlType {
  id: number
  name: string
  /** Elements per block; a row consists of whole blocks. */
  blockElements: number
  /** Bytes per block. */
  blockBytes: number
}

const TABLE: readonly (readonly [id: number, name: string, blockElements: number, blockBytes: number])[] = [
  [0, 'F32', 1, 4],
  [1, 'F16', 1, 2],
  [2, 'Q4_0', 32, 18],
  [3, 'Q4_1', 32, 20],
  [6, 'Q5_0', 32, 22],
  [7, 'Q5_1', 32, 24],
  [8, 'Q8_0', 32, 34],
  [9, 'Q8_1', 32, 36],
  [10, 'Q2_K', 256, 84],
  [11, 'Q3_K', 256, 110],
  [12, 'Q4_K', 256, 144],
  [13, 'Q5_K', 256, 176],
  [14, 'Q6_K', 256, 210],
  [15, 'Q8_K', 256, 292],
  [16, 'IQ2_XXS', 256, 66],
  [17, 'IQ2_XS', 256, 74],
  [18, 'IQ3_XXS', 256, 98],
  [19, 'IQ1_S', 256, 50],
  [20, 'IQ4_NL', 32, 18],
  [21, 'IQ3_S', 256, 110],
  [22, 'IQ2_S', 256, 82],
  [23, 'IQ4_XS', 256, 136],
  [24, 'I8', 1, 1],
  [25, 'I16', 1, 2],
  [26, 'I32', 1, 4],
  [27, 'I64', 1, 8],
  [28, 'F64', 1, 8],
  [29, 'IQ1_M', 256, 56],
  [30, 'BF16', 1, 2],
  [34, 'TQ1_0', 256, 54],
  [35, 'TQ2_0', 256, 66],
  [39, 'MXFP4', 32, 17],
]

export const GGML_TYPES: ReadonlyMap<number, GgmlType> = new Map(
  TABLE.map(([id, name, blockElements, blockBytes]) => [id, { id, name, blockElements, blockBytes }]),
)

export const GGML_TYPES_BY_NAME: ReadonlyMap<string, GgmlType> = new Map(
  [...GGML_TYPES.values()].map((type) => [type.name, type]),
)

/** Types with unknown layout: removed from ggml, or newer than this table. */
export const GGML_TYPE_NAMES_ONLY: ReadonlyMap<number, string> = new Map([
  [4, 'Q4_2 (removed from ggml)'],
  [5, 'Q4_3 (removed from ggml)'],
  [31, 'Q4_0_4_4 (removed from ggml)'],
  [32, 'Q4_0_4_8 (removed from ggml)'],
  [33, 'Q4_0_8_8 (removed from ggml)'],
  [36, 'IQ4_NL_4_4 (removed from ggml)'],
  [37, 'IQ4_NL_4_8 (removed from ggml)'],
  [38, 'IQ4_NL_8_8 (removed from ggml)'],
  [40, 'NVFP4'],
  [41, 'Q1_0'],
  [42, 'Q2_0'],
])
