/** 1 for an answer that is the expected one in every character, else 0. */
export const exact = ({ prediction, expected }) => (prediction === expected ? 1 : 0)
