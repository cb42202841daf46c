"""Words that say nothing by themselves, which WUPS leaves out of answers.

The list was written for this library from the closed classes of English, one line a class, in the forms in which
`ptb_tokenize` gives words and in which a lemmatiser leaves them. It was then compared with the list of the code of
NExT-OE: words of place, order and amount such as `on`, `under`, `after` and `more`, which that code keeps, were taken
out again, for they are answers themselves. `no`, `nor` and `not` are in neither, for they turn an answer into its
opposite. A few words are still in one list only.
"""

ARTICLES = "a an the"
PERSONS = "i me my myself we us our ours ourselves you your yours yourself yourselves"
OTHERS = "he him his himself she her hers herself it its itself they them their theirs themselves"
POINTING = "this that these those here there"
ASKING = "what which who whom whose when where why how"
AUXILIARIES = "am is are was were be been being have has had having do does did doing can could will would shall should"
CLITICS = "'s 'm 're 've 'll 'd n't it's that's you're you've you'll you'd she's"
NEGATED = (
    "don't doesn't didn't isn't aren't wasn't weren't hasn't haven't hadn't won't wouldn't shouldn't couldn't can't"
)
MORE_NEGATED = "mustn't needn't shan't mightn't ain't"
LINKING = (
    "at for from into of onto to through with about again during until while and or but if because as than so then"
)
STRESSING = "all any each most other some such only own too very just further now"

STOP_WORDS = frozenset(
    word
    for line in (
        ARTICLES, PERSONS, OTHERS, POINTING, ASKING, AUXILIARIES, CLITICS, NEGATED, MORE_NEGATED, LINKING, STRESSING
    )
    for word in line.split()
)  # fmt: skip
