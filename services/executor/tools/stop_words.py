"""Words that say nothing about a text: English ones, and the commonest of five neighbours."""

from __future__ import annotations

_ENGLISH = """
a about above after again against all also am an and any are as at be because been before being
below between both but by can could did do does doing down during each even few for from further
get got had has have having he her here hers herself him himself his how i if in into is it its
itself just let me more most much must my myself no nor not now of off on once one only or other
our ours out over own per same shall she should since so some such than that the their theirs them
themselves then there these they this those through to too two under until up upon us very was we
were what when where which while who whom why will with within without would yet you your yours
yourself don't doesn't didn't isn't aren't wasn't weren't can't couldn't won't wouldn't it's
that's there's
"""
_GERMAN = """
aber als am an auch auf aus bei bin bis bist da dann das dass dem den der des die dies diese doch
durch ein eine einem einen einer eines er es für hat ich ihr im in ist ja kann mit nach nicht noch
nur ob oder ohne sehr sich sie sind so und uns unter vom von vor war was wenn wer wie wir wird zu
zum zur über
"""
_FRENCH = """
au aux avec ce ces cette dans de des du elle en est et il ils je la le les leur lui mais me même
ne nos nous on ou par pas pour qu que qui sa se ses son sont sur un une vous à été
"""
_SPANISH = """
al como con de del el ella en entre era es esta este ha la las le lo los más me muy no o para pero
por que se sin sobre son su sus también un una y ya
"""
_ITALIAN = """
ai al alla anche che chi con da dal dei del della di e gli ha i il in la le lo ma nel nella non
per più si sono su un una è
"""
_PORTUGUESE = """
ao aos as com como da das de do dos e em entre foi mais mas na nas no nos não o os ou para pela
pelo por que se sem ser sua um uma é
"""

STOP_WORDS = frozenset(
    f"{_ENGLISH} {_GERMAN} {_FRENCH} {_SPANISH} {_ITALIAN} {_PORTUGUESE}".split()
)
