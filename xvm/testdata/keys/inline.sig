-----BEGIN PGP MESSAGE-----

owGbwMvMwMU4VUN6M5/MGzHGNS5J3LmpxcWJ6al6JRUl2cxOJUlGxEEFhaL8/BK9
zNx0rk5GFxYGRi4GPTFFlvx5Aa/Kb019cD58ryLMGlYmkMECMkXFiQ6pFYm5BTmp
evlF6QxcnAIwJUIO7P8sl76LTZC63jrjkfrJi7KqDhkikduNdbVfPM2uum9sJ/sn
b/OxkBepaYnZi4ujX5av2dD+NbZDY8u2iF/mkmqPEwwq3ugeDjD/kRnveWtW576p
wX23u+a93LNjlqmv4F0J7aPrJGrEVDUd18s81F732/Obr8qGmb272/t+HOC5/t5p
pqzLjid25+P+idV8Mb7ielte/tHqgzesdl+ct+D4f4HVbdx7z9+Ysb1/Afvvb3om
7nFWT0uXbvptNz3u/d4tP5LMm3Y/imoquX+yKbGjRyvb+aRQX9DmiJlLrhj/3WNq
kOCgdzbBKMgu+sZ//+0V+5Zcmrb9kpTlpdr5Fz8uzNsZkc76WlU7QbxW7aU7AA==
=4QeN
-----END PGP MESSAGE-----
